"""The mix of the training rows: caps and weights per source, family and label, and the bound on synthetic rows. Pure.

Rows are selected by a hash of their ids: the same inputs give the same mix, and a higher cap keeps the rows of a lower one.
Held-out rows are never affected.
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
"""The columns that the rules read."""
SYNTHETIC = "synthetic_share"
Numbers = npt.NDArray[np.int32]
_UNAFFECTED = -1


class Mix:
    """How often each training row is rendered, computed after all rows were added; a few bytes per row are in memory, and only for
    rows that a rule affects.

    Args:
        rules: applied one after another.
        max_synthetic_share: largest share of synthetic rows in the result, 0 to 1.
    """

    def __init__(self, rules: Sequence[BalanceRule], max_synthetic_share: float) -> None:
        self.max_synthetic_share = max_synthetic_share
        self.count = 0
        self._groups = [_Groups(rule) for rule in rules]
        self._indices = array("q")
        """The affected rows: all, or without rules only the synthetic ones."""
        self._ranks = array("d")
        self._is_synthetic = array("b")
        self.left_out: list[tuple[str, npt.NDArray[np.int64]]] = []
        """Rule → the indices of the rows that it left out; filled by `times`."""

    def add(self, rows: pa.Table) -> None:
        """Adds rows (MIXED_BY)."""
        is_synthetic = _flags(pc.not_equal(rows["synthetic"], ""))
        affected = np.arange(rows.num_rows) if self._groups else np.flatnonzero(is_synthetic)
        self._indices.frombytes((self.count + affected).tobytes())
        self._ranks.extend(map(_rank, rows["row_id"].take(pa.array(affected)).to_pylist()))
        self._is_synthetic.frombytes(is_synthetic[affected].tobytes())
        self.count += rows.num_rows
        for groups in self._groups:
            groups.add(rows)

    def times(self) -> tuple[Numbers | None, dict[str, int]]:
        """(rows,) how often each row is taken (None: once), and rule → how many rows it left out."""
        times = np.ones(len(self._ranks), np.int32)
        left_out: Counter[str] = Counter()
        ranks = np.frombuffer(self._ranks)
        for groups in self._groups:
            before = times > 0
            for indices in groups.indices():
                _apply(groups.rule, indices, ranks, times)
            left_out[groups.rule.describe()] += self._leave_out(groups.rule.describe(), before, times)
        is_synthetic = np.frombuffer(self._is_synthetic, np.bool_)
        other_rows = self.count - len(times)
        before = times > 0
        _limit_synthetic(is_synthetic, ranks, times, other_rows, self.max_synthetic_share)
        left_out[SYNTHETIC] += self._leave_out(SYNTHETIC, before, times)
        counts = {name: count for name, count in left_out.items() if count}
        if (times == 1).all():
            return None, counts
        all_times = np.ones(self.count, np.int32)
        all_times[np.frombuffer(self._indices, np.int64)] = times
        return all_times, counts

    def _leave_out(self, rule: str, before: npt.NDArray[np.bool_], times: Numbers) -> int:
        dropped = np.flatnonzero(before & (times == 0))
        self.left_out.append((rule, np.frombuffer(self._indices, np.int64)[dropped]))
        return len(dropped)


class _Groups:
    """The rows that a rule affects, grouped as it counts them."""

    def __init__(self, rule: BalanceRule) -> None:
        self.rule = rule
        self._number_of: dict[bytes, int] = {}
        """Digest of the key → group: a label may be a long answer."""
        self._numbers = array("i")

    def add(self, rows: pa.Table) -> None:
        matches = np.ones(rows.num_rows, np.bool_)
        for name, column in COLUMN_OF.items():
            if (value := getattr(self.rule, name)) is not None:
                matches &= _flags(pc.equal(rows[column], value))
        numbers = np.full(rows.num_rows, _UNAFFECTED, np.int32)
        affected = rows.filter(pa.array(matches))
        columns = [affected[COLUMN_OF[name]].to_pylist() for name in self.rule.each]
        keys = map(_digest, zip(*columns, strict=True) if columns else [()] * affected.num_rows)
        numbers[matches] = [self._number_of.setdefault(key, len(self._number_of)) for key in keys]
        self._numbers.frombytes(numbers.tobytes())

    def indices(self) -> list[npt.NDArray[np.int64]]:
        """The indices of the rows of each group."""
        numbers = np.frombuffer(self._numbers, np.int32)
        order = np.argsort(numbers, kind="stable")
        edges = np.searchsorted(numbers[order], np.arange(len(self._number_of) + 1))
        return [order[first:last] for first, last in itertools.pairwise(edges.tolist())]


def replay(
    rows: pa.Table, known_batches: Sequence[str], share: float
) -> tuple[pa.Table, Counter[str], pa.ChunkedArray]:
    """The rows of a training that continues from a champion: those of new batches, and a share of the champion's batches; how many
    of them are new and known; and the ids of the other rows."""
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
    """A hash of the id as a number from 0 to 1."""
    return int.from_bytes(hashlib.sha256(f"balance\x1f{row_id}".encode()).digest()[:7], "big") / 2.0**56


def _apply(rule: BalanceRule, indices: npt.NDArray[np.int64], ranks: Any, times: Any) -> None:
    indices = indices[times[indices] > 0]
    if rule.weight is not None:
        whole, part = divmod(rule.weight, 1.0)
        times[indices] *= int(whole) + (ranks[indices] < part)
    if rule.max_rows is not None:
        order = indices[np.argsort(ranks[indices], kind="stable")]
        times[order[rule.max_rows :]] = 0


def _limit_synthetic(is_synthetic: Any, ranks: Any, times: Any, other_rows: int, max_share: float) -> None:
    """Leaves out synthetic rows over the bound. `other_rows`: further rows, all collected."""
    synthetic_rows = np.flatnonzero(is_synthetic & (times > 0))
    if max_share >= 1 or not len(synthetic_rows):
        return
    collected = other_rows + int(times[~is_synthetic].sum(dtype=np.int64))
    allowed = int(collected * max_share / (1 - max_share) + 1e-9)
    order = synthetic_rows[np.argsort(ranks[synthetic_rows], kind="stable")]
    over = order[np.cumsum(times[order], dtype=np.int64) > allowed]
    times[over] = 0
