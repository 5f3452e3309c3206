"""JSON Lines: a record a line. A line that is not JSON, or does not decode, is kept as it came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.ingest.lines import MAX_RECORD_BYTES, RawRecord, read_lines


def read_jsonl(path: Path, encoding: str) -> Iterator[RawRecord]:
    """Every line that is not blank. Only a line feed ends a line: JSON may hold U+2028 as it is."""
    encoding, lines = read_lines(path, encoding)
    for line in lines:
        if not line.is_whole:
            yield RawRecord(
                line.number, raw=line.content, error=f"too_long: over {MAX_RECORD_BYTES:,} bytes in one line"
            )
            continue
        try:
            text = line.content.decode(encoding)
        except UnicodeDecodeError as mistake:
            yield RawRecord(line.number, raw=line.content, error=not_decoded(mistake))
            continue
        if not text.strip():
            continue
        try:
            yield RawRecord(line.number, record=parse_json(text))
        except ValueError as mistake:
            yield RawRecord(line.number, raw=line.content, error=f"not_json: {mistake}")


def not_decoded(error: UnicodeDecodeError) -> str:
    """What an unreadable text says of itself."""
    return f"not_decoded: not {error.encoding} at byte {error.start + 1}"


def parse_json(text: str) -> Any:
    """The JSON value. NaN, which JSON lacks and Python writes, is accepted: the row is for `validate` to judge.

    Raises:
        ValueError: it is not JSON, or is nested deeper than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
