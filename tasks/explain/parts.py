"""The parts of the user's texts that are occluded: fields, sentences, clauses, words. Pure.

A field is split into sentences, these into clauses, and these into words (a Chinese character is a word, a symbol too). A level
with one part is left out. A part has at most FAN_OUT children: more are put into groups of neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import regex

from tasks.records.segmentation import word_spans

FAN_OUT = 24
Span = tuple[int, int]

_ENDS = {
    "sentence": regex.compile(r"[.!?]+[\"'”’)\]]*\s+|[。！？…]+[\"'”’』」）]*\s*|\n\s*"),
    "clause": regex.compile(r"[,;:]\s+|[，；：、]\s*"),
}


@dataclass(frozen=True)
class Part:
    """A span of a field's text."""

    name: str
    """The name of its field."""
    start: int
    end: int
    level: str
    """`field`, `sentence`, `clause`, `word`; `sentences`, `clauses`, `words`: neighbours."""
    children: tuple[Part, ...] = field(default=(), compare=False)

    def text(self, texts: Mapping[str, str]) -> str:
        return texts[self.name][self.start : self.end]


def parts_of(name: str, text: str) -> Part:
    """A field with its parts."""
    return Part(name, 0, len(text), "field", _children(name, text, (0, len(text)), ("sentence", "clause", "word")))


def leaves(part: Part) -> Iterator[Part]:
    """The smallest parts of a part, in the order of the text."""
    if not part.children:
        yield part
    for child in part.children:
        yield from leaves(child)


def all_parts(part: Part) -> Iterator[Part]:
    """A part and the parts below it."""
    yield part
    for child in part.children:
        yield from all_parts(child)


def without(texts: Mapping[str, str], removed: Collection[Part]) -> dict[str, str]:
    """The texts without these parts; parts of one field do not overlap."""
    rest = dict(texts)
    for part in sorted(removed, key=lambda part: -part.start):
        text = rest[part.name]
        rest[part.name] = text[: part.start] + text[part.end :]
    return rest


def _children(name: str, text: str, span: Span, levels: tuple[str, ...]) -> tuple[Part, ...]:
    level, lower = levels[0], levels[1:]
    spans = _words(text, span) if level == "word" else _split(text, span, level)
    if len(spans) < 2:
        return _children(name, text, span, lower) if lower else ()
    parts = [Part(name, *each, level, _children(name, text, each, lower) if lower else ()) for each in spans]
    while len(parts) > FAN_OUT:
        size = min(FAN_OUT, -(-len(parts) // FAN_OUT))
        groups = [tuple(parts[first : first + size]) for first in range(0, len(parts), size)]
        parts = [
            Part(name, group[0].start, group[-1].end, f"{level}s", group) if len(group) > 1 else group[0]
            for group in groups
        ]
    return tuple(parts)


def _split(text: str, span: Span, level: str) -> list[Span]:
    ends = [match.end() for match in _ENDS[level].finditer(text, *span)]
    edges = [span[0], *(end for end in ends if end < span[1]), span[1]]
    return [(start, end) for start, end in itertools.pairwise(edges) if text[start:end].strip()]


def _words(text: str, span: Span) -> list[Span]:
    """Each word with the spaces after it; punctuation belongs to no word."""
    spans = []
    for start, end in word_spans(text[span[0] : span[1]]):
        first, last = span[0] + start, span[0] + end
        while last < span[1] and text[last] in " \t\u3000":
            last += 1
        spans.append((first, last))
    return spans
