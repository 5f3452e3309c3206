"""The rows of the dataset: those that may be parents, and the prompts of held-out rows, which are never generated.

The dataset is read in pieces. Of a row that may be a parent, only its position stays in memory; its text is read again when a
recipe needs it, a few rows at a time.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks import paths
from tasks.build.row_collector import prompt_key

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.state.manifest import Batch

POSITION = np.dtype([("row_id", "S32"), ("batch", np.int32), ("index", np.int64), ("key", "V16")])
"""Of a row: its id, the index of its batch in `DatasetRows.batches`, its index in the batch, and its prompt's key."""
ROWS_AT_ONCE = 64
Positions = npt.NDArray[np.void]


@dataclass(frozen=True)
class DatasetRows:
    batches: list[Batch] = field(default_factory=list)
    """The batches with rows in the dataset."""
    parents: dict[str, Positions] = field(default_factory=dict)
    """Requested family → its training rows that were collected, not generated."""
    held_out: frozenset[bytes] = frozenset()
    """The keys of the prompts of all other rows: validation, test, golden and benchmark."""


@dataclass(frozen=True)
class Parents:
    """Rows in the order of their use (dicts of DATASET_SCHEMA), read a few at a time."""

    batches: list[Batch]
    positions: Positions

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from tasks.dataset.read import pieces_of

        for first in range(0, len(self.positions), ROWS_AT_ONCE):
            some = self.positions[first : first + ROWS_AT_ONCE]
            rows: dict[tuple[int, int], dict[str, Any]] = {}
            for number in np.unique(some["batch"]).tolist():
                batch = self.batches[number]
                for piece in pieces_of(batch, [_read_part(batch, some["index"][some["batch"] == number].tolist())]):
                    rows.update(((number, row["index"]), row) for row in piece.to_pylist())
            yield from (rows[int(position["batch"]), int(position["index"])] for position in some)


def read_dataset_rows(families: Collection[str] = ()) -> DatasetRows:
    """The rows in data/curated, with parents of these families; empty before the first run.

    Raises:
        DataError: a raw batch is missing.
    """
    if not paths.CURATED.is_dir():
        return DatasetRows()
    from tasks.dataset.read import pieces_of, read_parts

    batches: list[Batch] = []
    held_out: set[bytes] = set()
    parents: dict[str, list[Positions]] = {family: [] for family in families}
    for batch, part in read_parts():
        for piece in pieces_of(batch, [part]):
            positions: dict[str, list[tuple[Any, ...]]] = {}
            for row in piece.to_pylist():
                if (row["split"], row["use"]) != ("train", "train"):
                    held_out.add(prompt_key(row))
                elif row["family"] in parents and not row["synthetic"]:
                    position = (row["row_id"], len(batches), row["index"], prompt_key(row))
                    positions.setdefault(row["family"], []).append(position)
            for family, of_family in positions.items():
                parents[family].append(np.array(of_family, POSITION))
        batches.append(batch)
    of_families = {family: np.concatenate(chunks) for family, chunks in parents.items() if chunks}
    return DatasetRows(batches, of_families, frozenset(held_out))


def choose_parents(dataset: DatasetRows, family: str | None, seed: int) -> Parents:
    """The family's rows without a held-out prompt, in a random order in which an additional row does not move the others."""
    positions = dataset.parents.get(family or "", np.empty(0, POSITION))
    is_free = [key.tobytes() not in dataset.held_out for key in positions["key"]]
    positions = positions[np.array(is_free, np.bool_)]
    ids = [row_id.decode() for row_id in positions["row_id"].tolist()]
    ranks = [random.Random(f"{seed}:{row_id}").random() for row_id in ids]
    order = sorted(range(len(ids)), key=lambda number: (ranks[number], ids[number]))
    return Parents(dataset.batches, positions[order])


def _read_part(batch: Batch, indices: list[int]) -> pa.Table:
    """Rows of a batch in data/curated (CURATED_SCHEMA)."""
    import pyarrow.parquet as pq

    return pq.read_table(paths.CURATED / batch.part, filters=[("index", "in", indices)])
