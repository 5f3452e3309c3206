"""Dotted paths of numbers in metrics.json, below `models.candidate`: `robustness.typos.drop`. A name with a dot is quoted:
`families."news.en".exact_match`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PART = re.compile(r'(?:"([^"]+)"|([^."]+))(?:\.(?=.)|$)')


def split_path(path: str) -> tuple[str, ...]:
    """Raises ValueError if it is not a path."""
    parts, position = [], 0
    while position < len(path):
        match = _PART.match(path, position)
        if match is None:
            raise ValueError(f'{path!r} is no path of a number, such as robustness.typos.drop or families."a.b".score')
        parts.append(match[1] or match[2])
        position = match.end()
    if not parts:
        raise ValueError("a path of a number is empty")
    return tuple(parts)


def join_path(parts: tuple[str, ...]) -> str:
    return ".".join(f'"{part}"' if "." in part else part for part in parts)


def number_paths(value: Any, parts: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of all numbers, and of nulls, which are numbers that were not measured."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from number_paths(inner, (*parts, str(name)))
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield join_path(parts)
