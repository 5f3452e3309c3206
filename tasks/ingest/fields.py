"""What each shape of record is made of: the fields that it may have, and those that it must have.

`tasks/records/shapes.py` says what becomes of them.
"""

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
"""The fields of each shape; `columns` may say where they are found."""

REQUIRED_FIELDS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text_label": ("text", "label"),
    "preference": ("chosen", "rejected"),
    "kto": ("label",),
    "text": ("text",),
    "conll": ("tokens", "tags"),
    "parallel": ("source", "target"),
    "row": ("input", "output"),
}
"""What each shape must have."""

WITHIN_TURNS = frozenset(_TURNS)
"""Fields of a turn: they stand within a record, and are no columns of it."""

WITH_TURNS = ("messages", "conversations", "prompt", "chosen", "rejected")
"""Fields that hold turns."""

SHAPES_WITH_IMAGES = frozenset(shape for shape, fields in FIELDS.items() if "images" in fields)
