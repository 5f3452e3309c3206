"""The fields of each shape of record: all, and the required ones. `tasks/records/shapes.py` converts them to rows."""

from __future__ import annotations

_TURNS = ("from", "value", "role", "content")

FIELDS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "input", "output", "system", "history"),
    "sharegpt": ("conversations", "from", "value", "system", "tools", "images"),
    "messages": ("messages", "role", "content", "tools", "images"),
    "prompt_completion": ("prompt", "completion", "system"),
    "text_label": ("text", "label"),
    "preference": ("chosen", "rejected", "prompt", "conversations", "messages", *_TURNS, "system", "tools", "images"),
    "kto": ("label", "prompt", "completion", "conversations", "messages", *_TURNS, "system", "tools", "images"),
    "text": ("text",),
    "conll": ("tokens", "tags"),
    "parallel": ("source", "target"),
    "row": ("input", "output"),
}
"""The fields of each shape; `columns` maps them to columns of the source."""

REQUIRED_FIELDS: dict[str, tuple[str, ...]] = FIELDS | {
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "preference": ("chosen", "rejected"),
    "kto": ("label",),
}
"""The required fields of each shape; all of them, where it is not listed."""

WITHIN_TURNS = frozenset(_TURNS)
"""Fields of turns: not columns of a record."""

WITH_TURNS = ("messages", "conversations", "prompt", "chosen", "rejected")
"""Fields that contain turns."""

SHAPES_WITH_IMAGES = frozenset(shape for shape, fields in FIELDS.items() if "images" in fields)
