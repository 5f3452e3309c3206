"""JSON Lines: a record a line. A line that is not JSON, or cannot be decoded, is kept as bytes."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.ingest.readers import lines
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.lines import read_lines
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.records.strict_json import StrictDecoder


def read_jsonl(content: Content, source: Source) -> Iterator[RawRecord]:
    """Every line that is not blank, behind `content.skip_bytes`. Only a line feed ends a line: JSON may contain U+2028."""
    return json_lines(content, source.encoding)


def json_lines(content: Content, declared_encoding: str) -> Iterator[RawRecord]:
    """As `read_jsonl`; a byte order mark overrides the encoding."""
    encoding, numbered_lines = read_lines(
        content, declared_encoding, content.skip_bytes, content.skip_lines + 1, skips_blank=lambda: True
    )
    decoder = StrictDecoder()
    for line in numbered_lines:
        if not line.is_whole:
            yield too_long(line.number, line.content)
            continue
        if line.content.isspace():
            continue
        try:
            text = line.content.decode(encoding)
        except UnicodeDecodeError as decode_error:
            yield RawRecord(line.number, None, line.content, not_decoded(decode_error))
            continue
        if not text.strip():
            continue
        record, error = decoder.decode(text)
        if error:
            yield RawRecord(line.number, None, line.content, error)
        else:
            yield RawRecord(line.number, record)


def not_decoded(error: UnicodeDecodeError) -> str:
    """The error of a record that cannot be decoded."""
    return f"not_decoded: not {error.encoding} at byte {error.start + 1}"


def too_long(number: int, content: bytes) -> RawRecord:
    """A part of a record that is too long."""
    return RawRecord(number, None, content, f"too_long: over {lines.MAX_RECORD_BYTES:,} bytes in one record")
