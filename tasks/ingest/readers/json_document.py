"""A JSON document: an array, an object that holds one list, or JSON Lines under the wrong name; element by element.

In a truncated file, or one with an invalid element, only that element is lost: it is kept as bytes, and the next one is
read.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from tasks.errors import SourceError
from tasks.ingest.fields import REQUIRED_FIELDS
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.json_text import Text
from tasks.ingest.readers.jsonl import json_lines
from tasks.ingest.readers.lines import UNDECODED, encoding_of
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.records.strict_json import TOO_DEEP, StrictDecoder, fault_of_depth

LARGEST_OBJECT_BYTES = 256 * 1024 * 1024
"""A file that is one object is read as a whole; arrays and lines are read in parts."""
_FIRST_KEY = re.compile(r'\{\s*("(?:[^"\\]|\\.)*")\s*:')


def read_json_document(content: Content, source: Source) -> Iterator[RawRecord]:
    """The records of a JSON file. An object with a required field of the source's shape is the only record.

    Raises:
        SourceError: it is one object of more than LARGEST_OBJECT_BYTES.
    """
    encoding = source.encoding
    record_keys = frozenset(source.columns.get(name, name) for name in REQUIRED_FIELDS[source.shape])
    actual, mark_bytes = encoding_of(content, encoding)
    with content.open() as file:
        file.read(mark_bytes)
        text = Text(file, actual)
        first = text.peek()
        if first == "[":
            text.position += 1
            yield from _elements(text)
            return
    if first == "{":
        yield from _object(content, encoding, record_keys)
    elif first:  # neither: line by line; a line that cannot be parsed is kept as its bytes
        yield from json_lines(content, encoding)


def _object(content: Content, encoding: str, record_keys: frozenset[str]) -> Iterator[RawRecord]:
    records = json_lines(content, encoding)
    first = next(records, None)
    second = next(records, None)
    if first is not None and first.is_parsed and second is not None:  # JSON Lines, named .json
        yield from (first, second)
        yield from records
        return
    actual, mark_bytes = encoding_of(content, encoding)
    with content.open() as file:
        file.read(mark_bytes)
        whole = file.read(LARGEST_OBJECT_BYTES + 1)
    if len(whole) > LARGEST_OBJECT_BYTES:
        if second is not None and isinstance(second.record, dict):  # JSON Lines with an invalid first line
            yield from json_lines(content, encoding)
            return
        what = f"is one JSON object of more than {LARGEST_OBJECT_BYTES:,} bytes"
        raise SourceError(what, where=content.name, fix="Store its records as JSON Lines, or as an array")
    try:
        text = whole.decode(actual)
        document, error = StrictDecoder().decode(text)
    except UnicodeDecodeError as decode_error:
        text, document, error = "", None, f"not_decoded: not {actual} at byte {decode_error.start + 1}"
    if not error:
        for number, record in enumerate(_records_of(document, record_keys), start=1):
            yield RawRecord(number, record)
    elif (span := _span_of_list(text, record_keys)) is not None:  # one record is invalid, not all
        yield from _elements(Text(io.BytesIO(text[slice(*span)].encode(actual)), actual))
    # several objects one after another, or an invalid one: line by line, no record is lost
    elif second is not None and any(isinstance(line.record, dict) for line in json_lines(content, encoding)):
        yield from json_lines(content, encoding)
    else:
        yield RawRecord(1, None, whole, error)


def _records_of(document: Any, record_keys: frozenset[str]) -> list[Any]:
    """The records of an object: its only list, or itself."""
    lists = [value for value in document.values() if isinstance(value, list)]
    if len(lists) == 1 and not record_keys & document.keys():
        return list(lists[0])
    return [document]


def _span_of_list(text: str, record_keys: frozenset[str]) -> tuple[int, int] | None:
    """Start and end of the elements of an object's only list; None if it is a record, or not JSON."""
    decoder = json.JSONDecoder()
    spans: list[tuple[int, int]] = []
    keys: list[str] = []
    position = text.find("{") + 1
    try:
        while key := re.compile(r'[\s,]*(?=")').match(text, position):
            name, position = decoder.raw_decode(text, key.end())
            position = re.compile(r"\s*:\s*").match(text, position).end()  # type: ignore[union-attr]
            _, end = decoder.raw_decode(text, position)
            keys.append(name)
            if text[position] == "[":
                spans.append((position + 1, end))
            position = end
    except (ValueError, RecursionError, AttributeError):
        return None
    is_list = len(spans) == 1 and not record_keys & set(keys) and len(set(keys)) == len(keys)
    return spans[0] if is_list else None


def _elements(text: Text) -> Iterator[RawRecord]:
    """The remaining elements of an array."""
    number = 0
    first_key: str | None = None
    decoder = StrictDecoder()
    while (character := text.peek()) and character != "]":
        if character == ",":
            text.position += 1
            continue
        number += 1
        value, source, error = _element(text, decoder)
        if error is None and UNDECODED.search(source):
            error = f"not_decoded: not {text.encoding}"
        if error is None:
            yield RawRecord(number, value)
        elif source:
            yield RawRecord(number, None, text.bytes_of(source), error)
        else:
            for piece in _skip_to_next(text, first_key):
                yield RawRecord(number, None, text.bytes_of(piece), error)
        if first_key is None and (key := _FIRST_KEY.match(source)):
            first_key = key.group(1)
    if character == "]":
        text.position += 1
        for piece in text.rest():
            if piece.strip():
                error = "not_json: text after the end of the array"
                yield RawRecord(number + 1, None, text.bytes_of(piece.strip()), error)


def _element(text: Text, decoder: StrictDecoder) -> tuple[Any, str, str | None]:
    """The next element as (value, text, error). The text is empty if its JSON is invalid, as its end is then unknown."""
    while True:
        start = text.position
        try:
            value, end = decoder.decode_at(text.buffer, start)
        except json.JSONDecodeError as error:
            may_continue = error.pos > len(text.buffer) - 12 or error.msg.startswith("Unterminated string")
            if may_continue and text.may_grow() and text.more():
                continue
            return None, "", f"not_json: {error.msg} {error.pos - start} characters into the record"
        except RecursionError:
            return None, "", TOO_DEEP
        except ValueError:
            return None, "", "not_json: a number too long"
        if end > len(text.buffer) - 12 and text.more():  # a number may continue
            continue
        text.position = end
        source = text.buffer[start:end]
        return value, source, decoder.fault or fault_of_depth(value, source) or None


def _skip_to_next(text: Text, first_key: str | None) -> Iterator[str]:
    """The text up to the next record: `}`, a comma, and `{` with the first key of records in this file.

    In pieces if it is longer than the bound of a record.
    """
    own = _FIRST_KEY.match(text.buffer, text.position)
    key = first_key or (own.group(1) if own else None)
    border = re.compile(r"\}\s*,\s*(?=\{\s*" + (re.escape(key) if key else "") + ")")
    searched = text.position
    while True:
        if next_record := border.search(text.buffer, searched):
            skipped = text.buffer[text.position : next_record.end()]
            text.position = next_record.end()
            yield skipped.rstrip().removesuffix(",").rstrip()
            return
        if not text.may_grow():
            yield text.buffer[text.position :]
            text.position = len(text.buffer)
        # a border may have begun in this text: search again from its last brace
        begun = text.buffer.rfind("}", text.position)
        searched = (begun if begun >= 0 else len(text.buffer)) - text.position
        if not text.more():
            for piece in text.rest():
                if piece.rstrip():
                    yield piece.rstrip()
            return
