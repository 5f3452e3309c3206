"""Rows that were added, removed or changed between two sets of Parquet files. Of each row only a digest is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.runtime.files import read_batches
from tasks.runtime.plurals import count_of

ID = "row_id"
PORTION = 2000
COMPARED_BY_COLUMN = 20_000
"""At most so many changed rows are read again to name their columns."""

Key = tuple[str, str]
"""File and row id; of a table without ids, the digest of the row."""


def table_difference(recorded: Mapping[str, Path], new: Mapping[str, Path]) -> tuple[bool, str, dict[str, Any]]:
    """Compares the rows of the files with the same name.

    Returns:
        Whether the rows are the same, the difference as text, and as numbers.
    """
    (before, order), (after, new_order) = _digests(recorded), _digests(new)
    removed, added = before.keys() - after.keys(), after.keys() - before.keys()
    changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
    numbers: dict[str, Any] = {
        "rows": sum(count for count, _ in before.values()),
        "added": sum(after[key][0] for key in added),
        "removed": sum(before[key][0] for key in removed),
        "changed": len(changed),
    }
    if not (added or removed or changed) and order != new_order:  # a training reads them in their order
        return False, f"the same {count_of(numbers['rows'], 'row')} in another order", {**numbers, "order": "differs"}
    if not (added or removed or changed):
        return True, "the same rows in other bytes", numbers
    if changed and len(changed) <= COMPARED_BY_COLUMN:
        numbers["columns"] = _changed_columns(recorded, new, changed)
    return False, _text(numbers), numbers


def _text(numbers: dict[str, Any]) -> str:
    kinds = [f"{numbers[kind]:,} {kind}" for kind in ("added", "removed", "changed") if numbers[kind]]
    share = numbers["changed"] / max(numbers["rows"], 1)
    text = f"{', '.join(kinds)} of {count_of(numbers['rows'], 'row')}"
    if numbers["changed"]:
        text += f" ({share:.1%} changed"
        columns = ", ".join(f"{name} in {count:,}" for name, count in list(numbers.get("columns", {}).items())[:6])
        text += f": {columns})" if columns else ")"
    return text


def _digests(files: Mapping[str, Path]) -> tuple[dict[Key, tuple[int, int]], bytes]:
    """Key → number of rows, and the sum of their digests; and a digest of all rows in their order."""
    digests: dict[Key, tuple[int, int]] = {}
    order = hashlib.blake2b()
    for key, row in _rows(files):
        count, total = digests.get(key, (0, 0))
        digest = _digest(row)
        digests[key] = count + 1, total + digest
        order.update(digest.to_bytes(16))
    return digests, order.digest()


def _rows(files: Mapping[str, Path]) -> Iterator[tuple[Key, dict[str, Any]]]:
    for name, path in sorted(files.items()):
        with pq.ParquetFile(path) as file:
            for batch in read_batches(file, PORTION):
                for row in batch.to_pylist():
                    key = row[ID] if ID in row else f"{_digest(row):032x}"
                    yield (name, str(key)), row


def _digest(row: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest())


def _changed_columns(recorded: Mapping[str, Path], new: Mapping[str, Path], changed: set[Key]) -> dict[str, int]:
    """Column → number of changed rows in which it differs, the most frequent first."""
    before = {key: row for key, row in _rows(recorded) if key in changed}
    counts: dict[str, int] = {}
    for key, row in _rows(new):
        if key not in changed:
            continue
        for column in row.keys() | before[key].keys():
            if repr(row.get(column)) != repr(before[key].get(column)):
                counts[column] = counts.get(column, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
