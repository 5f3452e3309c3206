"""The rows that the project holds: which may be parents, and which prompts must never be made again.

The dataset is gone through a piece at a time. Of a row that may be a parent only its place is kept; its text is read again when it
is asked for, which a recipe does a few at a time.
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

PLACE = np.dtype([("row_id", "S32"), ("batch", np.int32), ("index", np.int64), ("key", "V16")])
"""Of a row: its id, the place of its batch in `Held.batches`, its place in the batch, and its prompt's key."""
ROWS_AT_ONCE = 64
Places = npt.NDArray[np.void]


@dataclass(frozen=True)
class Held:
    batches: list[Batch] = field(default_factory=list)
    """Those that have rows in the dataset."""
    parents: dict[str, Places] = field(default_factory=dict)
    """Family asked for → its training rows that were collected, not made."""
    tested_on: frozenset[bytes] = frozenset()
    """The keys of the prompts of all other sides: validation, test, golden and benchmark rows."""


@dataclass(frozen=True)
class Parents:
    """Rows in the order in which they are taken (dicts of DATASET_SCHEMA), read a few at a time."""

    batches: list[Batch]
    places: Places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from tasks.dataset.read import pieces_of

        for first in range(0, len(self.places), ROWS_AT_ONCE):
            some = self.places[first : first + ROWS_AT_ONCE]
            rows: dict[tuple[int, int], dict[str, Any]] = {}
            for number in np.unique(some["batch"]).tolist():
                batch = self.batches[number]
                for piece in pieces_of(batch, [_named(batch, some["index"][some["batch"] == number].tolist())]):
                    rows.update(((number, row["index"]), row) for row in piece.to_pylist())
            yield from (rows[int(place["batch"]), int(place["index"])] for place in some)


def read_held(families: Collection[str] = ()) -> Held:
    """What data/curated holds; nothing before the first run.

    Args:
        families: those whose rows are wanted as parents.

    Raises:
        DataError: a raw batch is not on the disk.
    """
    if not paths.CURATED.is_dir():
        return Held()
    from tasks.dataset.read import pieces_of, read_parts

    batches: list[Batch] = []
    tested_on: set[bytes] = set()
    found: dict[str, list[Places]] = {family: [] for family in families}
    for batch, part in read_parts():
        for piece in pieces_of(batch, [part]):
            places: dict[str, list[tuple[Any, ...]]] = {}
            for row in piece.to_pylist():
                if (row["split"], row["use"]) != ("train", "train"):
                    tested_on.add(prompt_key(row))
                elif row["family"] in found and not row["synthetic"]:
                    place = (row["row_id"], len(batches), row["index"], prompt_key(row))
                    places.setdefault(row["family"], []).append(place)
            for family, some in places.items():
                found[family].append(np.array(some, PLACE))
        batches.append(batch)
    parents = {family: np.concatenate(some) for family, some in found.items() if some}
    return Held(batches, parents, frozenset(tested_on))


def choose_parents(held: Held, family: str | None, seed: int) -> Parents:
    """The family's rows whose prompt nobody is tested on, in an order that one more row does not upset."""
    places = held.parents.get(family or "", np.empty(0, PLACE))
    is_free = [key.tobytes() not in held.tested_on for key in places["key"]]
    places = places[np.array(is_free, np.bool_)]
    ids = [row_id.decode() for row_id in places["row_id"].tolist()]
    ranks = [random.Random(f"{seed}:{row_id}").random() for row_id in ids]
    order = sorted(range(len(ids)), key=lambda number: (ranks[number], ids[number]))
    return Parents(held.batches, places[order])


def _named(batch: Batch, indices: list[int]) -> pa.Table:
    """What data/curated says of rows of a batch (CURATED_SCHEMA)."""
    import pyarrow.parquet as pq

    return pq.read_table(paths.CURATED / batch.part, filters=[("index", "in", indices)])
