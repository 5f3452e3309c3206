"""YAML that somebody wrote, read in bounded time and memory: names for parts (`&a`, `*a`) may not multiply them without end.

A reader keeps one part under many names; what looks at each of them (JSON, a copy) meets it as often as it is named: nine lines of
nine names each are a thousand million texts.
"""

from __future__ import annotations

import re
from typing import Any, Literal

MOST_CHARACTERS = 8 * 1024 * 1024
MOST_NODES = 200_000
"""Texts, numbers, lists and mappings, each counted as often as it is named."""
DEEPEST = 100
_COMPACT = re.compile(rf"^[ ]*(?:[-?] +){{{DEEPEST}}}", re.MULTILINE)


def load_yaml(text: str, kind: Literal["safe", "rt"] = "safe") -> Any:
    """The document.

    Args:
        kind: `rt` keeps the lines of what it read, for messages.

    Raises:
        ValueError: it is no YAML, or comes to too much; the text says which, in one line.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        _require_bounded(text)
        return YAML(typ=kind).load(text)
    except YAMLError as error:
        raise ValueError(f"not readable as YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(_too_deep()) from None
    except ValueError as error:
        told = " ".join(str(error).split())
        raise ValueError(told if told.startswith("not readable") else f"not readable as YAML: {told[:200]}") from error


def _too_deep() -> str:
    return f"not readable as YAML: nested more than {DEEPEST} levels deep"


def _require_bounded(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"not readable as YAML: more than {MOST_CHARACTERS:,} characters")
    depth = 0
    if text.count("[") + text.count("{") > DEEPEST:
        for mark in re.findall(r"[\[\]{}]", text):  # those in texts count, too
            depth = depth + 1 if mark in "[{" else max(depth - 1, 0)
            if depth > DEEPEST:
                raise ValueError(_too_deep())
    if _COMPACT.search(text):
        raise ValueError(_too_deep())
    if "*" in text and "&" in text:
        _count_named(text)


def _count_named(text: str) -> None:
    """Raises ValueError where the document, each part counted as often as it is named, is too large or holds itself."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

    sizes: dict[str, int] = {}
    open_parts: list[tuple[str | None, int]] = [(None, 0)]
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionStartEvent):
            if event.anchor:
                sizes.pop(event.anchor, None)
            open_parts.append((event.anchor, 1))
            if len(open_parts) > DEEPEST:
                raise ValueError(_too_deep())
            continue
        if isinstance(event, CollectionEndEvent):
            anchor, size = open_parts.pop()
        elif isinstance(event, ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, AliasEvent):
            if event.anchor in (name for name, _ in open_parts):
                raise ValueError(f"not readable as YAML: *{event.anchor} stands within itself")
            anchor, size = None, sizes.get(event.anchor, 1)
        else:
            continue
        if anchor:
            sizes[anchor] = size
        parent, total = open_parts[-1]
        open_parts[-1] = (parent, total + size)
        if total + size > MOST_NODES:
            raise ValueError(f"not readable as YAML: its named parts (&, *) come to more than {MOST_NODES:,} values")
