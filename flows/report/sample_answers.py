"""Three test rows with the answers of base and candidate: chosen by row id, never by score."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from tasks import paths

COUNT = 3
COLUMNS = ["row_id", "family", "language", "prompt", "target", "prediction", "score"]


@dataclass(frozen=True)
class Answers:
    family: str
    prompt: str
    """Instruction and input as collected, without templates."""
    target: str
    predictions: dict[str, str]
    """Role (base, champion, candidate) → its answer."""
    scores: dict[str, float]


def choose_answers() -> list[Answers]:
    """The first rows by id, alternating between families and languages; empty without predictions."""
    rows = {role: table for role in ("base", "champion", "candidate") if (table := _read(role))}
    if "candidate" not in rows or "base" not in rows:
        return []
    groups: dict[tuple[str, str], list[str]] = {}
    for row_id, row in sorted(rows["candidate"].items()):
        if all(row_id in table for table in rows.values()):
            groups.setdefault((row["family"], row["language"]), []).append(row_id)
    turns = zip_longest(*(ids for _, ids in sorted(groups.items())))
    chosen = [row_id for turn in turns for row_id in turn if row_id][:COUNT]
    prompts = _prompts(set(chosen))
    return [_answers(row_id, rows, prompts) for row_id in chosen]


def _answers(row_id: str, rows: dict[str, dict[str, Any]], prompts: dict[str, str]) -> Answers:
    row = rows["candidate"][row_id]
    return Answers(
        family=row["family"],
        prompt=prompts.get(row_id, row["prompt"]),
        target=row["target"],
        predictions={role: table[row_id]["prediction"] for role, table in rows.items()},
        scores={role: float(table[row_id]["score"]) for role, table in rows.items()},
    )


def _prompts(row_ids: set[str]) -> dict[str, str]:
    """Row id → instruction and input."""
    from tasks.dataset.read import read_dataset

    rows = read_dataset(row_ids).to_pylist()
    return {row["row_id"]: " ".join(part for part in (row["instruction"], row["input"]) if part) for row in rows}


def _read(role: str) -> dict[str, Any]:
    path = paths.PREDICTIONS / f"{role}.parquet"
    if not path.exists():
        return {}
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:  # read_table would import pyarrow.dataset and pandas: half a second
        return {row["row_id"]: row for row in file.read(columns=COLUMNS).to_pylist()}
