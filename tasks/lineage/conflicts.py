"""Prompts with several different answers from one source, in the present dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.dataset.conflicts import conflict_key
from tasks.dataset.read import read_pieces
from tasks.records.segmentation import normalise


@dataclass(frozen=True)
class Conflict:
    source: str
    prompt: str
    answers: list[dict[str, Any]]
    """row_id, batch, split and output of each row, in the order of arrival."""


def conflicts() -> list[Conflict]:
    """The prompts with at least two answers, in the order of their first rows.

    Answers that differ only in case, width or white space count as equal, as for duplicates.
    """
    positions: dict[int, list[tuple[int, int]]] = {}
    for number, piece in enumerate(read_pieces()):
        for index, row in enumerate(piece.to_pylist()):
            if key := conflict_key(row):
                positions.setdefault(key, []).append((number, index))
    several = {position: key for key, rows in positions.items() if len(rows) > 1 for position in rows}
    pieces = {number for number, _ in several}
    rows: dict[int, list[dict[str, Any]]] = {}
    for number, piece in enumerate(read_pieces()):
        for index, row in enumerate(piece.to_pylist()) if number in pieces else ():
            if (number, index) in several:
                rows.setdefault(several[number, index], []).append(row)
    return [
        Conflict(same[0]["source"], " ".join(f"{same[0]['instruction']} {same[0]['input']}".split()), _answers(same))
        for same in rows.values()
        if len({normalise(row["output"]) for row in same}) > 1
    ]


def _answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("row_id", "batch", "split", "output")} for row in rows]
