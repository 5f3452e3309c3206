"""A JSON document: an array, an object that holds one list, or JSON Lines under the wrong name; element by element.

A file cut in half, or one broken element, costs that element alone: it is kept as it came, and reading goes on at the
next one.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tasks.ingest.jsonl import parse_json, read_jsonl
from tasks.ingest.lines import RawRecord, detect_encoding, keeping_errors

CHUNK_BYTES = 1024 * 1024
_SPACE = re.compile(r"[ \t\r\n]*")
_FIRST_KEY = re.compile(r'\{\s*("(?:[^"\\]|\\.)*")\s*:')
_DECODER = json.JSONDecoder()
_UNDECODED = re.compile("[\ud800-\udfff]")


def read_json_document(path: Path, encoding: str, record_keys: frozenset[str]) -> Iterator[RawRecord]:
    """The records of a JSON file.

    Args:
        record_keys: fields of a single record; an object that has one of them is itself the only record.
    """
    with path.open("rb") as file:
        text = _Text(file, detect_encoding(file, encoding))
        first = text.peek()
        if first == "[":
            text.position += 1
            yield from _elements(text)
            return
    if first == "{":
        yield from _object(path, encoding, record_keys)
    elif first:  # neither: each line for itself, or it is kept as it came
        yield from read_jsonl(path, encoding)


def _object(path: Path, encoding: str, record_keys: frozenset[str]) -> Iterator[RawRecord]:
    lines = read_jsonl(path, encoding)
    first = next(lines, None)
    second = next(lines, None)
    if first is not None and first.is_parsed and second is not None:  # JSON Lines, named .json
        yield from (first, second)
        yield from lines
        return
    content = path.read_bytes()
    with path.open("rb") as file:
        actual = detect_encoding(file, encoding)
        start = file.tell()
    try:
        document = parse_json(content[start:].decode(actual))
    except ValueError as error:  # UnicodeDecodeError is one
        # several objects one after another, or a broken one: line by line loses nothing
        if second is not None and any(isinstance(line.record, dict) for line in read_jsonl(path, encoding)):
            yield from read_jsonl(path, encoding)
        else:
            yield RawRecord(1, raw=content, error=f"not_json: {error}")
        return
    for number, record in enumerate(_listed(document, record_keys), start=1):
        yield RawRecord(number, record=record)


def _listed(document: Any, record_keys: frozenset[str]) -> list[Any]:
    """The records of an object: its only list, or itself."""
    lists = [value for value in document.values() if isinstance(value, list)]
    if len(lists) == 1 and not record_keys & document.keys():
        return list(lists[0])
    return [document]


@dataclass
class _Text:
    """Decoded text, read as needed; what does not decode stays in it as half surrogates, and can be turned back."""

    file: BinaryIO
    encoding: str
    buffer: str = ""
    position: int = 0
    is_at_end: bool = False
    _decoder: Any = field(default=None)

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder(self.encoding)(errors=keeping_errors(self.encoding))

    def more(self) -> bool:
        """Reads a chunk; False at the end of the file."""
        if self.is_at_end:
            return False
        chunk = self.file.read(CHUNK_BYTES)
        self.is_at_end = not chunk
        # what is behind us goes, so that memory holds a few elements at a time
        self.buffer = self.buffer[self.position :] + self._decoder.decode(chunk, final=self.is_at_end)
        self.position = 0
        return True

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self.position = _SPACE.match(self.buffer, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if not self.more():
                return ""

    def bytes_of(self, text: str) -> bytes:
        return text.encode(self.encoding, keeping_errors(self.encoding))


def _elements(text: _Text) -> Iterator[RawRecord]:
    """The elements of the array that `text` stands in."""
    number = 0
    first_key: str | None = None
    while (character := text.peek()) and character != "]":
        if character == ",":
            text.position += 1
            continue
        number += 1
        value, source, error = _element(text)
        if error is None and _UNDECODED.search(source):
            error = f"not_decoded: not {text.encoding}"
        if error is None:
            yield RawRecord(number, record=value)
            if first_key is None and (key := _FIRST_KEY.match(source)):
                first_key = key.group(1)
            continue
        if source == "":
            source = _skip_to_next(text, first_key)
        yield RawRecord(number, raw=text.bytes_of(source), error=error)
    if character == "]":
        text.position += 1
        rest = _rest(text).strip()
        if rest:
            yield RawRecord(number + 1, raw=text.bytes_of(rest), error="not_json: text after the end of the array")


def _element(text: _Text) -> tuple[Any, str, str | None]:
    """The next element as (value, its text, error). With an error in its JSON, its end is unknown, its text empty."""
    while True:
        start = text.position
        try:
            value, end = _DECODER.raw_decode(text.buffer, start)
        except json.JSONDecodeError as error:
            may_go_on = error.pos > len(text.buffer) - 12 or error.msg.startswith("Unterminated string")
            if may_go_on and text.more():
                continue
            return None, "", f"not_json: {error.msg} {error.pos - start} characters into the record"
        except (ValueError, RecursionError):
            return None, "", "not_json: nested too deeply, or a number too long"
        if end > len(text.buffer) - 12 and text.more():  # a number may go on
            continue
        text.position = end
        return value, text.buffer[start:end], None


def _skip_to_next(text: _Text, first_key: str | None) -> str:
    """The text up to where the next record begins: `}`, a comma, and `{` with the key that records here begin with."""
    while True:
        own = _FIRST_KEY.match(text.buffer, text.position)
        key = first_key or (own.group(1) if own else None)
        border = re.compile(r"\}\s*,\s*(?=\{\s*" + (re.escape(key) if key else "") + ")")
        if found := border.search(text.buffer, text.position):
            skipped = text.buffer[text.position : found.end()]
            text.position = found.end()
            return skipped.rstrip().removesuffix(",").rstrip()
        if not text.more():
            return _rest(text).rstrip()


def _rest(text: _Text) -> str:
    while text.more():
        pass
    rest = text.buffer[text.position :]
    text.position = len(text.buffer)
    return rest
