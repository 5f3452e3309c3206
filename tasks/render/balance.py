"""The mix of the training rows: caps and weights a source, family and label, and the bound on made rows. Pure.

Which rows stay is decided by the rank of a hash of their ids: the same inputs give the same mix, and a cap that grows keeps the
rows that it had. Rows that are held out are never touched.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.render.settings import BalanceRule

COLUMN_OF = {"source": "source", "family": "family", "label": "output"}
MIXED_BY = ("row_id", "batch", "synthetic", *COLUMN_OF.values())
"""The columns that are looked at."""
SYNTHETIC = "synthetic_share"
Numbers = npt.NDArray[np.int32]
_NOT_MEANT = -1


class Mix:
    """How often each training row is rendered, found when all were seen; of each some bytes are kept, and nothing where no rule
    speaks of it.

    Args:
        rules: applied one after another.
        max_synthetic_share: largest share of what is left that may be made rows, 0 to 1.
    """

    def __init__(self, rules: Sequence[BalanceRule], max_synthetic_share: float) -> None:
        self.max_synthetic_share = max_synthetic_share
        self.count = 0
        self._groups = [_Groups(rule) for rule in rules]
        self._places = array("q")
        """Of the rows that may be left out or repeated: all, or without rules those that were made."""
        self._ranks = array("d")
        self._is_made = array("b")
        self.left_out: list[tuple[str, npt.NDArray[np.int64]]] = []
        """Rule → the places of the rows that it left out; known after `times`."""

    def add(self, rows: pa.Table) -> None:
        """Looks at more rows (MIXED_BY)."""
        is_made = _flags(pc.not_equal(rows["synthetic"], ""))
        meant = np.arange(rows.num_rows) if self._groups else np.flatnonzero(is_made)
        self._places.frombytes((self.count + meant).tobytes())
        self._ranks.extend(map(_rank, rows["row_id"].take(pa.array(meant)).to_pylist()))
        self._is_made.frombytes(is_made[meant].tobytes())
        self.count += rows.num_rows
        for groups in self._groups:
            groups.add(rows)

    def times(self) -> tuple[Numbers | None, dict[str, int]]:
        """How often each row is taken (None: each once), and how many rows each rule left out."""
        times = np.ones(len(self._ranks), np.int32)
        left_out: Counter[str] = Counter()
        ranks = np.frombuffer(self._ranks)
        for groups in self._groups:
            before = times > 0
            for places in groups.places():
                _apply(groups.rule, places, ranks, times)
            left_out[groups.rule.told()] += self._leave_out(groups.rule.told(), before, times)
        is_made = np.frombuffer(self._is_made, np.bool_)
        others = self.count - len(times)
        before = times > 0
        _bound_made(is_made, ranks, times, others, self.max_synthetic_share)
        left_out[SYNTHETIC] += self._leave_out(SYNTHETIC, before, times)
        told = {name: count for name, count in left_out.items() if count}
        if (times == 1).all():
            return None, told
        found = np.ones(self.count, np.int32)
        found[np.frombuffer(self._places, np.int64)] = times
        return found, told

    def _leave_out(self, rule: str, before: npt.NDArray[np.bool_], times: Numbers) -> int:
        gone = np.flatnonzero(before & (times == 0))
        self.left_out.append((rule, np.frombuffer(self._places, np.int64)[gone]))
        return len(gone)


class _Groups:
    """Which rows a rule speaks of, and which of them it counts together."""

    def __init__(self, rule: BalanceRule) -> None:
        self.rule = rule
        self._number_of: dict[bytes, int] = {}
        """Digests: a label may be a long answer."""
        self._numbers = array("i")

    def add(self, rows: pa.Table) -> None:
        matches = np.ones(rows.num_rows, np.bool_)
        for name, column in COLUMN_OF.items():
            if (wanted := getattr(self.rule, name)) is not None:
                matches &= _flags(pc.equal(rows[column], wanted))
        numbers = np.full(rows.num_rows, _NOT_MEANT, np.int32)
        meant = rows.filter(pa.array(matches))
        columns = [meant[COLUMN_OF[name]].to_pylist() for name in self.rule.each]
        keys = map(_digest, zip(*columns, strict=True) if columns else [()] * meant.num_rows)
        numbers[matches] = [self._number_of.setdefault(key, len(self._number_of)) for key in keys]
        self._numbers.frombytes(numbers.tobytes())

    def places(self) -> list[npt.NDArray[np.int64]]:
        """The places of the rows, a group each."""
        numbers = np.frombuffer(self._numbers, np.int32)
        order = np.argsort(numbers, kind="stable")
        edges = np.searchsorted(numbers[order], np.arange(len(self._number_of) + 1))
        return [order[first:last] for first, last in itertools.pairwise(edges.tolist())]


def replay(
    rows: pa.Table, known_batches: Sequence[str], share: float
) -> tuple[pa.Table, Counter[str], pa.ChunkedArray]:
    """The rows that a training that goes on from a champion sees: those of new batches, and a share of the known ones.

    Returns:
        The rows, how many of them are new and known, and the ids of the others.
    """
    is_known = np.isin(np.asarray(rows["batch"].to_pylist(), np.str_), list(known_batches))
    ranks = np.array([_rank(row_id) for row_id in rows["row_id"].to_pylist()], np.float64)
    kept = ~is_known | (ranks < share)
    counts = Counter(new=int(np.count_nonzero(~is_known)), known=int(np.count_nonzero(is_known & kept)))
    return rows.filter(pa.array(kept)), counts, rows["row_id"].filter(pa.array(~kept))


def _digest(values: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(values).encode("utf-8", "surrogatepass")).digest()[:16]


def _flags(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.bool_)


def _rank(row_id: str) -> float:
    """A number from 0 to 1 that follows from the id."""
    return int.from_bytes(hashlib.sha256(f"balance\x1f{row_id}".encode()).digest()[:7], "big") / 2.0**56


def _apply(rule: BalanceRule, places: npt.NDArray[np.int64], ranks: Any, times: Any) -> None:
    places = places[times[places] > 0]
    if rule.weight is not None:
        whole, part = divmod(rule.weight, 1.0)
        times[places] *= int(whole) + (ranks[places] < part)
    if rule.max_rows is not None:
        order = places[np.argsort(ranks[places], kind="stable")]
        times[order[rule.max_rows :]] = 0


def _bound_made(is_made: Any, ranks: Any, times: Any, others: int, max_share: float) -> None:
    """Leaves out made rows over the bound. `others`: collected rows beside these."""
    made = np.flatnonzero(is_made & (times > 0))
    if max_share >= 1 or not len(made):
        return
    collected = others + int(times[~is_made].sum(dtype=np.int64))
    allowed = int(collected * max_share / (1 - max_share) + 1e-9)
    order = made[np.argsort(ranks[made], kind="stable")]
    over = order[np.cumsum(times[order], dtype=np.int64) > allowed]
    times[over] = 0
