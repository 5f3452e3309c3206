"""The rows that the project holds: which may be parents, and which prompts must never be made again."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tasks import paths
from tasks.build.made import prompt_key


@dataclass(frozen=True)
class Held:
    parents: list[dict[str, Any]] = field(default_factory=list)
    """Training rows of the families asked for, that were collected, not made (DATASET_SCHEMA)."""
    tested_on: frozenset[bytes] = frozenset()
    """The keys of the prompts of all other sides: validation, test, golden and benchmark rows."""


def read_held(families: Collection[str] = ()) -> Held:
    """What data/curated holds; nothing before the first run.

    Args:
        families: those whose rows are wanted as parents.
    """
    if not paths.CURATED.is_dir():
        return Held()
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.dataset import read_dataset

    rows = read_dataset()
    trains = pc.and_(pc.equal(rows["split"], "train"), pc.equal(rows["use"], "train"))
    tested_on = rows.filter(pc.invert(trains)).select(["system", "instruction", "input"])
    wanted = pc.and_(pc.equal(rows["synthetic"], ""), pc.is_in(rows["family"], pa.array(sorted(families), pa.string())))
    keys = (prompt_key(row) for batch in tested_on.to_batches(10_000) for row in batch.to_pylist())
    return Held(rows.filter(pc.and_(trains, wanted)).to_pylist(), frozenset(keys))


def choose_parents(held: Held, family: str | None, seed: int) -> list[dict[str, Any]]:
    """The family's rows whose prompt nobody is tested on, in an order that one more row does not upset."""

    def rank(row: dict[str, Any]) -> float:
        return random.Random(f"{seed}:{row['row_id']}").random()

    chosen = [row for row in held.parents if row["family"] == family and prompt_key(row) not in held.tested_on]
    return sorted(chosen, key=lambda row: (rank(row), row["row_id"]))
