"""YAML from users, parsed in bounded time and memory: anchors and aliases (`&a`, `*a`) may not expand without limit.

A parser keeps one object for all aliases, but a traversal (JSON, a copy) visits it once per alias: nine lines of nine aliases
each expand to a thousand million strings ("billion laughs").
"""

from __future__ import annotations

import re
from typing import Any, Literal

MAX_CHARACTERS = 8 * 1024 * 1024
MAX_NODES = 200_000
"""Scalars, lists and mappings, counted once per alias."""
MAX_DEPTH = 100
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_COMPACT = re.compile(rf"^[ ]*(?:[-?] +){{{MAX_DEPTH}}}", re.MULTILINE)


def load_yaml(text: str, kind: Literal["safe", "rt"] = "safe") -> Any:
    """Parses a document.

    Args:
        kind: `rt` keeps line numbers, for messages. Its parser accepts more than that of `safe`, which is DVC's: `{url: http://host}`
            without quotes.

    Raises:
        ValueError: it is not valid YAML, or is too large; the message says which, in one line.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        _require_bounded(text)
        return YAML(typ=kind).load(text)
    except YAMLError as error:
        raise ValueError(f"not readable as YAML: {_reason(error)}") from error
    except RecursionError:
        raise ValueError(f"not readable as YAML: {TOO_DEEP}") from None
    except ValueError as error:
        raise ValueError(f"not readable as YAML: {' '.join(str(error).split())[:200]}") from error


def _reason(error: Any) -> str:
    """Where, then what: a parser's own text has neither the file nor one line."""
    text = " ".join(str(error).split())
    hint = " (a text with `:` within { } or [ ] is put in quotes)" if "unexpected ':'" in text else ""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return text.replace('in "<unicode string>", ', "") + hint
    problem, context, began = problem.partition(" with value ")[0], error.context, error.context_mark
    is_open = context and began and began.line != mark.line and "duplicate" not in problem
    where = f" ({context} that began in line {began.line + 1})" if is_open else ""
    return f"line {mark.line + 1}: {problem}{where}{hint}"


def _require_bounded(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"more than {MAX_CHARACTERS:,} characters")
    depth = 0
    if text.count("[") + text.count("{") > MAX_DEPTH:
        for mark in re.findall(r"[\[\]{}]", text):  # brackets in strings count too
            depth = depth + 1 if mark in "[{" else max(depth - 1, 0)
            if depth > MAX_DEPTH:
                raise ValueError(TOO_DEEP)
    if _COMPACT.search(text):
        raise ValueError(TOO_DEEP)
    if "*" in text and "&" in text:
        _count_expanded(text)


def _count_expanded(text: str) -> None:
    """Raises ValueError if the document with all aliases expanded is too large, or if an alias is recursive."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionStartEvent):
            if event.anchor:
                sizes.pop(event.anchor, None)
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                raise ValueError(TOO_DEEP)
            continue
        if isinstance(event, CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, AliasEvent):
            if event.anchor in (name for name, _ in open_nodes):
                raise ValueError(f"*{event.anchor} contains itself")
            anchor, size = None, sizes.get(event.anchor, 1)
        else:
            continue
        if anchor:
            sizes[anchor] = size
        parent, total = open_nodes[-1]
        open_nodes[-1] = (parent, total + size)
        if total + size > MAX_NODES:
            raise ValueError(f"its aliases (&, *) expand to more than {MAX_NODES:,} values")
