"""A row's texts by name: its fields, and each turn of its history and each thought as `history.0`, `thoughts.1`, ... Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

TEXT_FIELDS = ("system", "instruction", "input", "output", "rejected")
LISTS = ("history", "thoughts")
"""Fields that are JSON lists of pairs, of which the second is a text."""

Texts = dict[str, str]


def texts_of(row: Mapping[str, Any]) -> Texts:
    texts = {name: row[name] for name in TEXT_FIELDS}
    for name in LISTS:
        if row.get(name, "") not in ("", "[]"):
            texts |= {f"{name}.{place}": pair[1] for place, pair in enumerate(json.loads(row[name]))}
    return texts


def with_texts(row: Mapping[str, Any], texts: Mapping[str, str], changed: Iterable[str]) -> dict[str, Any]:
    """The row with those texts that changed; its history and thoughts are written anew only where one of them did."""
    made = dict(row)
    lists: dict[str, list[list[Any]]] = {}
    for name in changed:
        field, _, place = name.partition(".")
        if not place:
            made[name] = texts[name]
            continue
        if field not in lists:
            lists[field] = json.loads(row[field])
        lists[field][int(place)][1] = texts[name]
    for field, pairs in lists.items():
        made[field] = json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))
    return made
