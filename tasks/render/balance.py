"""The mix of the training rows: caps and weights a source, family and label, and the bound on made rows. Pure.

Which rows stay is decided by the rank of a hash of their ids: the same inputs give the same mix, and a cap that grows keeps the
rows that it had. Rows that are held out are never touched.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.render.settings import BalanceRule

COLUMN_OF = {"source": "source", "family": "family", "label": "output"}
SYNTHETIC = "synthetic_share"


def balance(
    rows: pa.Table, rules: Sequence[BalanceRule], max_synthetic_share: float
) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    """Which training rows are rendered, in order, a row as often as its weight says; and how many each rule left out.

    Args:
        rows: training rows (DATASET_SCHEMA).
        rules: applied one after another.
        max_synthetic_share: largest share of what is left that may be made rows, 0 to 1.
    """
    times = np.ones(rows.num_rows, np.int64)
    left_out: Counter[str] = Counter()
    ranks = np.array([_rank(row_id) for row_id in rows["row_id"].to_pylist()], np.float64)
    for rule in rules:
        before = np.count_nonzero(times)
        for group in _groups(rows, rule):
            _apply(rule, group, ranks, times)
        left_out[rule.told()] += int(before - np.count_nonzero(times))
    is_made = np.asarray(pc.not_equal(rows["synthetic"], "").to_numpy(zero_copy_only=False), np.bool_)
    left_out[SYNTHETIC] += _bound_made(is_made, ranks, times, max_synthetic_share)
    return np.repeat(np.arange(rows.num_rows), times), {name: count for name, count in left_out.items() if count}


def replay(rows: pa.Table, known_batches: Sequence[str], share: float) -> tuple[pa.Table, dict[str, int]]:
    """The rows that a training that goes on from a champion sees: those of new batches, and a share of the known ones.

    Returns:
        The rows, and how many of them are new and known.
    """
    is_known = np.isin(np.asarray(rows["batch"].to_pylist(), np.str_), list(known_batches))
    ranks = np.array([_rank(row_id) for row_id in rows["row_id"].to_pylist()], np.float64)
    kept = ~is_known | (ranks < share)
    counts = {"new": int(np.count_nonzero(~is_known)), "known": int(np.count_nonzero(is_known & kept))}
    return rows.filter(pa.array(kept)), counts


def _rank(row_id: str) -> float:
    """A number from 0 to 1 that follows from the id."""
    return int.from_bytes(hashlib.sha256(f"balance\x1f{row_id}".encode()).digest()[:7], "big") / 2.0**56


def _groups(rows: pa.Table, rule: BalanceRule) -> list[npt.NDArray[np.int64]]:
    """The places of the rows that the rule speaks of, a group each that it counts on its own."""
    matches = np.ones(rows.num_rows, np.bool_)
    for name, column in COLUMN_OF.items():
        if (wanted := getattr(rule, name)) is not None:
            matches &= np.asarray(pc.equal(rows[column], wanted).to_numpy(zero_copy_only=False), np.bool_)
    places = np.flatnonzero(matches)
    if not rule.each:
        return [places]
    keys: dict[tuple[Any, ...], list[int]] = {}
    columns = [rows[COLUMN_OF[name]].take(pa.array(places)).to_pylist() for name in rule.each]
    for place, key in zip(places.tolist(), zip(*columns, strict=True), strict=True):
        keys.setdefault(key, []).append(place)
    return [np.array(group, np.int64) for group in keys.values()]


def _apply(rule: BalanceRule, places: npt.NDArray[np.int64], ranks: Any, times: Any) -> None:
    places = places[times[places] > 0]
    if rule.weight is not None:
        whole, part = divmod(rule.weight, 1.0)
        times[places] *= int(whole) + (ranks[places] < part)
    if rule.max_rows is not None:
        order = places[np.argsort(ranks[places], kind="stable")]
        times[order[rule.max_rows :]] = 0


def _bound_made(is_made: Any, ranks: Any, times: Any, max_share: float) -> int:
    """Leaves out made rows over the bound; returns how many."""
    made = np.flatnonzero(is_made & (times > 0))
    if max_share >= 1 or not len(made):
        return 0
    collected = int(times[~is_made].sum())
    allowed = int(collected * max_share / (1 - max_share) + 1e-9)
    order = made[np.argsort(ranks[made], kind="stable")]
    over = order[np.cumsum(times[order]) > allowed]
    times[over] = 0
    return len(over)
