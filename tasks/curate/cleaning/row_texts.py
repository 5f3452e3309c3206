"""A row's texts by name: its fields, the turns of its history and its thoughts as `history.0`, `thoughts.1`, ... Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

TEXT_FIELDS = ("system", "instruction", "input", "output", "rejected")
LISTS = ("history", "thoughts")
"""Fields that are JSON lists of pairs; the second item of a pair is a text."""

Texts = dict[str, str]


def texts_of(row: Mapping[str, Any]) -> Texts:
    texts = {name: row[name] for name in TEXT_FIELDS}
    for name in LISTS:
        if row.get(name, "") not in ("", "[]"):
            texts |= {f"{name}.{number}": pair[1] for number, pair in enumerate(json.loads(row[name]))}
    return texts


def with_texts(row: Mapping[str, Any], texts: Mapping[str, str], changed: Iterable[str]) -> dict[str, Any]:
    """The row with the changed texts; its history and thoughts are serialised again only where one of them changed."""
    updated = dict(row)
    lists: dict[str, list[list[Any]]] = {}
    for name in changed:
        field, _, number = name.partition(".")
        if not number:
            updated[name] = texts[name]
            continue
        if field not in lists:
            lists[field] = json.loads(row[field])
        lists[field][int(number)][1] = texts[name]
    for field, pairs in lists.items():
        updated[field] = json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))
    return updated
