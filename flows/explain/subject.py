"""What is explained: a row, or a text; and the fields of it that its user wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import DataError
from tasks.runtime.files import content_digest

Row = dict[str, Any]
PROMPT = "prompt"


@dataclass(frozen=True)
class Subject:
    name: str
    row: Row | None
    """None: a text without a template."""
    texts: dict[str, str]
    """Field → what the user wrote: instruction, input, and the user's earlier turns (`turn 1`); or PROMPT."""
    target: str = ""
    notes: list[str] = field(default_factory=list)


def of_prompt(prompt: str) -> Subject:
    """A text, as for `strop generate`."""
    text = prompt.strip()
    return Subject(f"prompt-{content_digest(text)[:12]}", None, {PROMPT: text})


def of_row(start: str) -> Subject:
    """The row whose id begins with `start`: as in the dataset, else as it was collected.

    Raises:
        DataError: no id, or several, begin so; the row was erased, or is none.
    """
    from tasks.dataset.read import read_dataset
    from tasks.lineage.row_history import collected_row, find_row

    row_id, records = find_row(start)
    if not records:
        raise DataError("was erased: its text no longer exists", where=row_id, fix="Explain another row")
    rows = read_dataset({row_id}).to_pylist()
    notes = [] if rows else ["The row is not in the present dataset: it is explained as it was collected."]
    row = rows[0] if rows else collected_row(row_id, records)
    if not (texts := texts_of(row)):
        what = "is raw text: no question leads to an answer" if row["output"] else "its record could not be parsed"
        raise DataError(what, where=row_id, fix=f"See it: strop rows why {row_id[:12]}; explain another row")
    return Subject(row_id, row, texts, row["output"].strip(), notes)


def texts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the user, without empty ones."""
    turns = [text for role, text in json.loads(row["history"]) if role == "user"]
    texts = {f"turn {number}": text for number, text in enumerate(turns, start=1)}
    texts |= {name: row[name] for name in ("instruction", "input")}
    return {name: text for name, text in texts.items() if text.strip()}


def with_texts(row: Row, texts: Mapping[str, str]) -> Row:
    """The row with other texts of the user."""
    number, history = 0, []
    for role, text in json.loads(row["history"]):
        number += role == "user"
        history.append([role, texts.get(f"turn {number}", text) if role == "user" else text])
    changed = {name: texts[name] for name in ("instruction", "input") if name in texts}
    return {**row, **changed, "history": json.dumps(history, ensure_ascii=False) if history else row["history"]}
