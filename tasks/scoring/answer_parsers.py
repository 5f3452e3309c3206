"""Parsers of answers: text → a label, entities, triples, JSON, tool calls or code; None if it cannot be parsed. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from itertools import chain, islice
from typing import Any

from tasks.scoring.answer_text import one_line

Pairs = frozenset[tuple[str, ...]]
Entries = list[dict[str, str]]

ENTRY = {"entities": ("type", "text"), "relation": ("head", "relation", "tail")}
"""Kind → the keys of an element."""

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_BETWEEN = re.compile(r"[ \t\r\n;,]*+")
_BRACKET = re.compile(r"(?<=\S)\s*(?:\[\s*)?\{(?=\s*\")")
MOST_POSITIONS = 16
"""Positions after words at which calls are searched."""
_LINE = re.compile(r"\s*[-*•]?\s*([^:：]{1,64}?)\s*[:：]\s*(.+?)\s*")
_CALLED = re.compile(
    r"\s*([^()（）,，;；|]+?)\s*[(（]\s*([^,，;；|]+?)\s*[,，;；|]\s*([^,，;；|]+?)\s*[)）]\s*[.。]?\s*"
)
_TRIPLE = re.compile(r"\s*[-*•(（]?\s*([^|;；]+?)\s*[|;；]\s*([^|;；]+?)\s*[|;；]\s*([^|;；]+?)\s*[)）]?\s*[.。]?\s*")
_WRAPPED = re.compile(
    r"\s*(?:(\*\*|[*_`\"'])(?=\S)|[“‘「『](?=[^\s]))([^*_`\"'“”‘’「」『』]*[^\s*_`\"'“”‘’「」『』])(?:(?(1)\1|[”’」』]))[.。]?\s*"
)
_NOTHING = {"none", "none.", "无", "无。", "没有", "没有。"}


def parse_text(answer: str) -> str:
    return answer


def parse_label(answer: str) -> str | None:
    """The answer without quotes or marks of emphasis around it: `**positive**`."""
    wrapped = _WRAPPED.fullmatch(answer)
    return (wrapped[2] if wrapped else answer) or None


def parse_code(answer: str) -> str | None:
    """The first fenced block, or the whole answer."""
    fenced = _FENCE.search(answer)
    return (fenced[1] if fenced else answer).strip() or None


def parse_json(answer: str) -> Any:
    """The JSON of an answer, which may be a number, string or boolean alone."""
    values = (_parsed(text, _EXACT) for text in _candidates(answer))
    return next((value for value in values if value is not None), None)


def parse_entities(answer: str) -> Pairs | None:
    """The entities as a set, folded as text is for comparison (`one_line`)."""
    return _folded(written_entities(answer))


def parse_triples(answer: str) -> Pairs | None:
    """The triples as a set, folded as text is for comparison (`one_line`)."""
    return _folded(written_triples(answer))


def written_entities(answer: str) -> Entries | None:
    """Entities in their own order and spelling: JSON [{"type", "text"}, ...], {"type": ["text", ...]}, or lines `type: text`."""
    value = json_of(answer)
    if value is not None:
        return entries_of("entities", value)
    return _from_lines("entities", answer, lambda line: _matched(_LINE, line))


def written_triples(answer: str) -> Entries | None:
    """Triples in their own order and spelling: JSON [{"head", "relation", "tail"}, ...] or [[head, relation, tail], ...], lines
    `head | relation | tail`, or `relation(head, tail)`."""
    value = json_of(answer)
    if value is not None:
        return entries_of("relation", value)

    def triple(line: str) -> tuple[str, ...] | None:
        if called := _matched(_CALLED, line):
            return called[1], called[0], called[2]
        return _matched(_TRIPLE, line)

    return _from_lines("relation", answer, triple)


def entries_of(kind: str, value: Any) -> Entries | None:
    """The entities or triples in JSON of any of these forms, with the keys of their kind; None for other JSON."""
    names = ENTRY[kind]
    if kind == "entities" and isinstance(value, dict) and not set(names) <= set(value):
        value = [[entity, text] for entity, texts in value.items() for text in _as_list(texts)]
    elif isinstance(value, dict) or _is_triple(value, names):
        value = [value]
    entries = []
    for entry in value if isinstance(value, list) else [None]:
        parts = [entry.get(name) for name in names] if isinstance(entry, dict) else entry
        if not isinstance(parts, list) or len(parts) != len(names) or not all(isinstance(part, str) for part in parts):
            return None
        entries.append(dict(zip(names, parts, strict=True)))
    return entries


def parse_calls(answer: str) -> list[dict[str, Any]] | None:
    """Calls as JSON, alone or in a list, with or without <tool_call> tags. Text before them is ignored, and the key `parameters`
    means `arguments`."""
    tagged = _TAGGED.findall(answer)
    if tagged:
        return _calls([json_of(text, exact=True) for text in tagged])
    starts = (match.start() for match in islice(_BRACKET.finditer(answer), MOST_POSITIONS))
    for start in (0, *starts):
        values, is_all = _json_values(answer[start:])
        if (calls := _calls(values)) is not None:
            return calls if is_all else None
    return None


def _calls(values: list[Any]) -> list[dict[str, Any]] | None:
    calls = []
    for value in chain.from_iterable(map(_as_list, values)):
        inner = value.get("function", value) if isinstance(value, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            return None
        arguments = inner.get("arguments", inner.get("parameters", {}))
        parsed = json_of(arguments, exact=True) if isinstance(arguments, str) else arguments
        calls.append({"name": inner["name"], "arguments": arguments if parsed is None else parsed})
    return calls or None


def json_of(text: str, *, exact: bool = False) -> Any:
    """The JSON object or list that is the whole answer, or the whole of a code fence; else None.

    Args:
        exact: numbers are Decimals of any size, and NaN and Infinity, which are not JSON, are refused.
    """
    for stripped in _candidates(text):
        if stripped[:1] in ("{", "["):
            value = _parsed(stripped, _EXACT if exact else {})
            if value is not None:
                return value
    return None


def _candidates(text: str) -> tuple[str, str]:
    """The parts of an answer that may be JSON: the whole, and the content of its code fence."""
    fenced = _FENCE.search(text)
    return text.strip(), fenced[1].strip() if fenced else ""


def _parsed(text: str, readers: dict[str, Any]) -> Any:
    try:
        return json.loads(text, **readers)
    except (ValueError, RecursionError):
        return None


def equal_json(one: Any, other: Any) -> bool:
    """Whether two values from `json_of` are the same JSON. 1, 1.0 and 1e0 are equal numbers; true is not a number."""
    pairs = [(one, other)]
    while pairs:
        one, other = pairs.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, dict):
            if one.keys() != other.keys():
                return False
            pairs += [(value, other[key]) for key, value in one.items()]
        elif isinstance(one, list):
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif one != other:
            return False
    return True


def _exact_number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError as error:  # an exponent of 19 digits
        raise ValueError(text) from error


def _no_number(text: str) -> Any:
    raise ValueError(text)


_EXACT: dict[str, Any] = {"parse_int": _exact_number, "parse_float": _exact_number, "parse_constant": _no_number}
_EXACT_DECODER = json.JSONDecoder(**_EXACT)


def _json_values(answer: str) -> tuple[list[Any], bool]:
    """The JSON values at the beginning of an answer, as some chat templates write calls, and whether they are the whole answer."""
    if (value := json_of(answer, exact=True)) is not None:
        return [value], True
    values: list[Any] = []
    position = _BETWEEN.match(answer).end()  # type: ignore[union-attr]
    while position < len(answer):
        try:
            value, position = _EXACT_DECODER.raw_decode(answer, position)
        except (ValueError, RecursionError):
            return values, False
        values.append(value)
        position = _BETWEEN.match(answer, position).end()  # type: ignore[union-attr]
    return values, True


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_triple(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, list) and len(value) == len(names) == 3 and all(isinstance(part, str) for part in value)


def _folded(entries: Entries | None) -> Pairs | None:
    return None if entries is None else frozenset(tuple(map(one_line, entry.values())) for entry in entries)


def _from_lines(kind: str, answer: str, parse: Callable[[str], tuple[str, ...] | None]) -> Entries | None:
    if answer.strip().casefold() in _NOTHING:
        return []
    entries = []
    for line in answer.splitlines():
        if line.strip():
            if (entry := parse(line)) is None:
                return None
            entries.append(dict(zip(ENTRY[kind], entry, strict=True)))
    return entries or None


def _matched(pattern: re.Pattern[str], line: str) -> tuple[str, ...] | None:
    match = pattern.fullmatch(" ".join(line.split()))  # on runs of spaces, the patterns would need quadratic time
    return match.groups() if match else None
