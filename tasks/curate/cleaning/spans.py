"""Updates offsets in an answer, such as those of entities, when the text that they refer to changes. Pure.

Only answers that are JSON are processed. A pair of numbers is a span only if the answer quotes the text between the two next to or
around them: {"text": "Bob", "start": 6, "end": 9}, {"head": "Bob", "head_span": [6, 9]}, ["PER", "Bob", 6, 9],
{"PER": {"Bob": [[6, 8]]}}. So is a start alone, or with a length: {"text": "Bob", "offset": 6, "length": 3}. The quoted text is
replaced by the changed text; where an entity is masked, or a part of it, that is the placeholder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.pii.edits import Edit, Offsets, apply
from tasks.pii.json_strings import STRING, as_json, is_json

Texts = Mapping[str, str]
_SCALAR = re.compile(rf"{STRING.pattern}|-?[0-9][0-9.eE+\-]*|true|false|null|NaN|-?Infinity", re.DOTALL)
_ENDS = (("start", "end"), ("start", "stop"), ("begin", "end"), ("from", "to"))
"""The names of a span's two keys, or parts of these names."""
MOST_AROUND = 16
"""Sibling texts of a list or an object that its spans may quote."""
_STARTS, _LENGTH = ("start", "offset", "begin", "pos"), "len"
"""Parts of the name of a start without an end, and of its length."""


def may_hold(row: Mapping[str, Any]) -> bool:
    """A cheap check of a row: may one of its answers be JSON?"""
    if any(row[name].lstrip()[:1] in ("[", "{") for name in ("output", "rejected")):
        return True
    return '","[' in row["history"] or '","{' in row["history"]


def follow(original: Texts, texts: Texts, rounds: Mapping[str, Sequence[Sequence[Edit]]]) -> dict[str, str]:
    """The answers with moved spans, with their new text.

    Args:
        original, texts: the row's texts (row_texts.Texts) before and after.
        rounds: the edits of those that changed.
    """
    moved = {}
    for answer, sources in _answers(original):
        has_changed = any(name in rounds for name in (answer, *sources))
        if has_changed and _may_hold_spans(original[answer]) and is_json(original[answer]) and is_json(texts[answer]):
            before = json.loads(original[answer], strict=False)
            after = json.loads(texts[answer], strict=False)
            spans = [_Source(original[name], texts[name], Offsets(rounds.get(name, ()))) for name in sources]
            if _walk(before, after, spans):
                moved[answer] = _with_values(texts[answer], after)
    return moved


def _answers(texts: Texts) -> Iterator[tuple[str, list[str]]]:
    """Each answer, and the texts that its spans may refer to."""
    for name in ("output", "rejected"):
        if texts[name]:
            yield name, [source for source in ("input", "instruction") if texts[source]]
    for index in range(1, sum(name.startswith("history.") for name in texts)):
        yield f"history.{index}", [f"history.{index - 1}"]


def _may_hold_spans(text: str) -> bool:
    return text.lstrip()[:1] in ("[", "{") and any(character.isdigit() for character in text)


class _Source:
    def __init__(self, original: str, text: str, offsets: Offsets) -> None:
        self._original, self._text, self._offsets = original, text, offsets

    def quotes(self, start: Any, end: Any, quoted: Sequence[str]) -> tuple[str, int] | None:
        """The quoted text between the two offsets, and 1 if `end` is inclusive, else 0; None where no quoted text is there."""
        if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(self._original):
            return None
        for last in (end, end + 1):
            if start < last and self._original[start:last] in quoted:
                return self._original[start:last], last - end
        return None

    def moved(self, start: int, end: int) -> tuple[int, int, str]:
        """The new start, exclusive end, and the text between them."""
        old = self._original[start:end]
        start, end = self._offsets.start(start), self._offsets.end(end)
        while start < end and self._text[start].isspace() and not old[0].isspace():
            start += 1
        while start < end and self._text[end - 1].isspace() and not old[-1].isspace():
            end -= 1
        return start, end, self._text[start:end]


def _walk(before: Any, after: Any, sources: Sequence[_Source], outer: Sequence[str] = ()) -> bool:
    """Moves the spans of `after`, which equals `before` except for its texts; returns whether there were any.

    Args:
        outer: texts and keys of enclosing objects: {"PER": {"Bob": [[6, 9]]}}.
    """
    if type(before) is not type(after) or not isinstance(before, (dict, list)) or len(before) != len(after):
        return False
    is_dict = isinstance(before, dict)
    keys: list[tuple[Any, Any]] = list(zip(before, after, strict=True) if is_dict else enumerate(range(len(before))))
    has_moved = False
    pairs = _pairs_of(before)
    strings = {key: before[key] for key, _ in keys if isinstance(before[key], str)}
    new_keys = dict(keys)
    for start_at, end_at in pairs:
        start, end = _at(before, start_at), _at(before, end_at)
        for source in sources:
            if match := source.quotes(start, end, [*strings.values(), *outer, *start_at[:1]]):
                quoted, inclusive = match
                new_start, new_end, text = source.moved(start, end + inclusive)
                _put(after, start_at, new_start, new_keys)
                _put(after, end_at, new_end - inclusive, new_keys)
                if quoted in strings.values():
                    after[new_keys[_key_of(quoted, strings, start_at)]] = text
                has_moved = True
                break
    if isinstance(before, dict) and not pairs:
        has_moved = _move_starts(before, after, new_keys, strings, sources)
    for key, new_key in keys:
        outer_of_item = [*[*strings.values()][:MOST_AROUND], *([key] if is_dict else outer)]
        if not (is_dict and _is_pair(before[key])):
            has_moved |= _walk(before[key], after[new_key], sources, outer_of_item)
    return has_moved


def _move_starts(
    before: dict[str, Any],
    after: dict[str, Any],
    new_keys: Mapping[Any, Any],
    strings: Mapping[Any, str],
    sources: Sequence[_Source],
) -> bool:
    """Moves a start without an end; returns whether there was one."""
    for key in (key for key in before if type(before[key]) is int and any(name in key.lower() for name in _STARTS)):
        for source, text in ((source, text) for source in sources for text in strings.values() if text):
            if source.quotes(before[key], before[key] + len(text), [text]):
                start, end, new = source.moved(before[key], before[key] + len(text))
                after[new_keys[key]], after[new_keys[_key_of(text, strings, (key,))]] = start, new
                for length in (other for other in before if _LENGTH in other.lower() and before[other] == len(text)):
                    after[new_keys[length]] = end - start
                return True
    return False


def _pairs_of(value: dict[str, Any] | list[Any]) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """The paths of two numbers that may be a span's."""
    if isinstance(value, list):
        return [((index,), (index + 1,)) for index in range(len(value) - 1) if _is_pair(value[index : index + 2])]
    pairs: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = []
    for key, item in value.items():
        if _is_pair(item):
            pairs.append(((key, 0), (key, 1)))
        for start, end in _ENDS:
            partner = key.lower().replace(start, end)
            if start in key.lower() and type(item) is int:
                pairs += [((key,), (other,)) for other in value if other.lower() == partner]
    return pairs


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _put(value: Any, path: tuple[Any, ...], number: int, new_keys: Mapping[Any, Any]) -> None:
    if len(path) == 1:
        value[new_keys[path[0]]] = number
    else:
        value[new_keys[path[0]]][path[1]] = number


def _key_of(quoted: str, strings: Mapping[Any, str], start_at: tuple[Any, ...]) -> Any:
    """The key of the span's text among equal texts: `head` for `head_start`."""
    keys = [key for key, text in strings.items() if text == quoted]
    return next((key for key in keys if isinstance(key, str) and str(start_at[0]).startswith(key)), keys[0])


def _with_values(text: str, value: Any) -> str:
    """JSON with the texts and numbers of `value`, which has the same structure; the formatting is kept."""
    scalars = list(_SCALAR.finditer(text))
    pairs = list(zip(_leaves(json.loads(text, strict=False)), _leaves(value), strict=True))
    if len(pairs) != len(scalars):  # a repeated key
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    edits = [
        Edit(*scalar.span(), as_json(new) if isinstance(new, str) else json.dumps(new), "")
        for scalar, (old, new) in zip(scalars, pairs, strict=True)
        if old != new
    ]
    return apply(text, edits)


def _leaves(value: Any) -> Iterator[Any]:
    """Keys and scalars in the order of the JSON text."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
