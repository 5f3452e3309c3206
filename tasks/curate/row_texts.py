"""A row's texts by name: its fields, and each turn of its history as `history.0`, `history.1`, ... Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

TEXT_FIELDS = ("system", "instruction", "input", "output", "rejected")
TURN = "history."

Texts = dict[str, str]


def texts_of(row: Mapping[str, Any]) -> Texts:
    texts = {name: row[name] for name in TEXT_FIELDS}
    if row["history"] != "[]":
        texts |= {f"{TURN}{place}": turn[1] for place, turn in enumerate(json.loads(row["history"]))}
    return texts


def with_texts(row: Mapping[str, Any], texts: Mapping[str, str], changed: Iterable[str]) -> dict[str, Any]:
    """The row with those texts that changed; its history is written anew only where a turn did."""
    made = dict(row)
    turns = None
    for name in changed:
        if not name.startswith(TURN):
            made[name] = texts[name]
            continue
        turns = json.loads(row["history"]) if turns is None else turns
        turns[int(name.removeprefix(TURN))][1] = texts[name]
    if turns is not None:
        made["history"] = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
    return made
