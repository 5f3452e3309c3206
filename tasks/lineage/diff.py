"""Differences between two dataset versions: rows added, removed, moved or edited, and inputs with another answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.lineage.version_data import Part, parts_of, text_of
from tasks.records.row import CLEANED_FIELDS
from tasks.records.segmentation import normalise
from tasks.runtime.files import content_digest

EXAMPLES = 5
SHOWN = ("row_id", "family", "source", "instruction", "input", "output", "split")
"""The fields of an example."""
KEYED = ("index", "split", *CLEANED_FIELDS)


@dataclass
class Changes:
    """The rows of one kind of change."""

    rows: int = 0
    by: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(family, source) → rows."""
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any], **details: Any) -> None:
        self.rows += 1
        self.by[row["family"], row["source"]] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({**{name: row[name] for name in SHOWN}, **details})


@dataclass
class Difference:
    before: int
    """Rows of the first version."""
    after: int
    batches_added: list[str] = field(default_factory=list)
    batches_removed: list[str] = field(default_factory=list)
    added: Changes = field(default_factory=Changes)
    removed: Changes = field(default_factory=Changes)
    edited: Changes = field(default_factory=Changes)
    """The same record, for which `curate` now gives another text."""
    moved: Changes = field(default_factory=Changes)
    """The same row in another split, which must not happen."""
    other_answer: Changes = field(default_factory=Changes)
    """Added rows whose input occurs in the first version with another answer."""


def difference(model: str, first: str, second: str, find_other_answers: bool = True) -> Difference:
    """The difference between two versions (`v1`, `2`, `now`).

    Args:
        find_other_answers: also compares added rows with the text of every row of the first version.

    Raises:
        DataError: there is no such version.
    """
    before, after = parts_of(model, first), parts_of(model, second)
    result = Difference(_rows(before.values()), _rows(after.values()))
    result.batches_added = [name for name in after if name not in before]
    result.batches_removed = [name for name in before if name not in after]
    added: list[dict[str, Any]] = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None and old.rows.equals(new.rows):
            continue
        _compare(old, new, result, added)
    if find_other_answers:
        _find_other_answers(before, added, result)
    return result


def _rows(parts: Iterable[Part]) -> int:
    return sum(part.rows.num_rows for part in parts)


def _compare(old: Part | None, new: Part | None, result: Difference, added: list[dict[str, Any]]) -> None:
    """Compares one batch, which may be missing in one of the versions."""
    was, now = _keyed(old), _keyed(new)
    for row in _texts(old, was.keys() - now.keys()):
        result.removed.add(row)
    for row in _texts(new, now.keys() - was.keys()):
        result.added.add(row)
        added.append(row)
    common = was.keys() & now.keys()
    edited = {index for index in common if was[index][1] != now[index][1]}
    for before, after in zip(_texts(old, edited), _texts(new, edited), strict=True):
        result.edited.add(after, output_before=before["output"], input_before=before["input"])
    for row in _texts(new, {index for index in common if was[index][0] != now[index][0]}):
        result.moved.add(row, split_before=was[row["index"]][0])


def _keyed(part: Part | None) -> dict[int, tuple[str, str]]:
    """Index in the batch → split, and a digest of the edited text ("" where it is unchanged)."""
    if part is None:
        return {}
    keyed = {}
    for index, split, *edited in zip(*(part.rows[name].to_pylist() for name in KEYED), strict=True):
        keyed[index] = (split, content_digest(edited) if any(text is not None for text in edited) else "")
    return keyed


def _texts(part: Part | None, indices: Iterable[int]) -> list[dict[str, Any]]:
    chosen = sorted(indices)
    if part is None or not chosen:
        return []
    rows = part.rows.filter(pc.is_in(part.rows["index"], pa.array(chosen, pa.int64())))
    texts: list[dict[str, Any]] = text_of(part, rows).to_pylist()
    return texts


def _find_other_answers(before: dict[str, Part], added: list[dict[str, Any]], result: Difference) -> None:
    """Compares the inputs of added rows with all rows of the first version."""
    inputs: dict[str, list[dict[str, Any]]] = {}
    for row in added:
        inputs.setdefault(_input(row), []).append(row)
    if not inputs:
        return
    for part in before.values():
        for old in text_of(part, part.rows).to_pylist():
            for row in inputs.get(_input(old), ()):
                if normalise(old["output"]) != normalise(row["output"]):
                    result.other_answer.add(row, output_before=old["output"])


def _input(row: dict[str, Any]) -> str:
    return normalise("\x1f".join([row["family"], row["system"], row["history"], row["instruction"], row["input"]]))
