"""CSV and Parquet. A CSV row that is torn, or has too many or too few fields, is kept as the bytes it came in."""

from __future__ import annotations

import base64
import csv
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from tasks.errors import SourceError, one_line
from tasks.ingest import lines as limits
from tasks.ingest.lines import KEEP, UNDECODED, Line, RawRecord, read_lines
from tasks.ingest.streams import Content


def read_csv(content: Content, encoding: str) -> Iterator[RawRecord]:
    """The rows below the header, as objects of text. The separator is the one the header uses: comma, tab or semicolon.

    Raises:
        SourceError: the header cannot be read.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # between records alone: within quotes a blank line is content
    encoding, lines = read_lines(content, encoding, skips_blank=lambda: not feed.taken)
    feed = _Feed(lines, encoding)
    header = _header(content, feed)
    if header is None:
        return
    reader = csv.reader(feed, delimiter=feed.delimiter, strict=True)
    while True:
        feed.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as error:
            # a quote that was opened swallows the lines below: only its own line is torn, the others are read again
            feed.give_back_all_but_first()
            yield feed.torn(f"bad_quote: {error}")
            continue
        if not fields or (len(fields) == 1 and not fields[0].strip()):
            continue
        if any(UNDECODED.search(value) for value in fields):
            yield feed.torn(f"not_decoded: not {encoding}")
        elif len(fields) != len(header):
            yield feed.torn(f"wrong_field_count: {len(fields)} fields, but the header has {len(header)}")
        else:
            yield RawRecord(feed.taken[0].number, dict(zip(header, fields, strict=True)))


class _TooLong(Exception):
    pass


@dataclass
class _Feed:
    """Lines of text for the csv module, which remembers the bytes that the present record was made of."""

    lines: Iterator[Line]
    encoding: str
    delimiter: str = ","
    taken: list[Line] = field(default_factory=list)
    taken_bytes: int = 0
    waiting: deque[Line] = field(default_factory=deque)

    def begin(self) -> None:
        """The next line taken is the first of a new record."""
        self.taken.clear()
        self.taken_bytes = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self.waiting.popleft() if self.waiting else next(self.lines)
        self.taken.append(line)
        self.taken_bytes += len(line.content)
        if not line.is_whole or self.taken_bytes > limits.MAX_RECORD_BYTES:
            raise _TooLong(f"over {limits.MAX_RECORD_BYTES:,} bytes in one record")
        if len(self.taken) > limits.MAX_RECORD_LINES:
            raise _TooLong(f"over {limits.MAX_RECORD_LINES:,} lines in one record")
        return line.content.decode(self.encoding, KEEP)

    def give_back_all_but_first(self) -> None:
        self.waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def torn(self, error: str) -> RawRecord:
        content = b"".join(line.content for line in self.taken)
        return RawRecord(self.taken[0].number, raw=content, error=error)


def _header(content: Content, feed: _Feed) -> list[str] | None:
    """The column names, each once; None where the file is empty."""
    text = ""
    while not text.strip():
        try:
            text = next(feed)
        except StopIteration:
            return None
        except _TooLong as error:
            raise SourceError(f"its header is {error}", where=content.name, fix="Is it a CSV file?") from error
    feed.delimiter = max(",\t;", key=text.count)  # the comma, where none is there
    feed.waiting.appendleft(feed.taken.pop())
    try:
        names = next(csv.reader(feed, delimiter=feed.delimiter, strict=True))
    except (csv.Error, StopIteration, _TooLong) as error:
        raise SourceError(
            f"its header cannot be read ({error})", where=content.name, fix="Is it a CSV file?"
        ) from error
    if UNDECODED.search("".join(names)):
        fix = "Say which it is: `encoding: gb18030`"
        raise SourceError(
            f"its header is not {feed.encoding}", where=f"{content.name} line {feed.taken[0].number}", fix=fix
        )
    header: dict[str, None] = {}
    for place, name in enumerate((name.strip() or f"column_{place}" for place, name in enumerate(names, 1)), start=1):
        while name in header:
            name = f"{name}_{place}"
        header[name] = None
    return list(header)


def read_parquet(content: Content) -> Iterator[RawRecord]:
    """The rows of a Parquet file, in bounded memory.

    Raises:
        SourceError: it is no Parquet file, is cut off, or holds more than its bound (columnar.py).
    """
    import pyarrow as pa

    from tasks.ingest.columnar import parquet_batches

    if content.archive:
        raise SourceError("is a packed Parquet file", where=content.name, fix="Unpack it: Parquet is packed in itself")
    number = 0
    try:
        for batch in parquet_batches(content):
            for record in rows_of(batch, number):
                number += 1
                yield record
    except (pa.ArrowException, ValueError, LookupError, OSError, RecursionError, MemoryError) as error:
        told = one_line((str(error) or type(error).__name__).splitlines()[0], 200)
        raise SourceError(
            f"cannot be read as Parquet ({told})", where=content.name, fix="Copy it again, whole"
        ) from error


def rows_of(batch: Any, before: int) -> Iterator[RawRecord]:
    """The rows of an arrow batch; one that cannot be told as JSON is kept as an Arrow stream.

    Args:
        before: how many rows came before.
    """
    try:
        records = [jsonable(record) for record in batch.to_pylist()]
    except (ValueError, OverflowError):  # one text among a thousand rows is not UTF-8, one date is no date
        for place in range(batch.num_rows):
            yield _row_alone(batch.slice(place, 1), before + place + 1)
        return
    for place, record in enumerate(records, start=1):
        yield RawRecord(before + place, record)


def _row_alone(row: Any, number: int) -> RawRecord:
    import pyarrow as pa

    try:
        return RawRecord(number, jsonable(row.to_pylist()[0]))
    except (ValueError, OverflowError) as error:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, row.schema) as writer:
            writer.write_batch(row)
        told = f"not utf-8 ({error.reason})" if isinstance(error, UnicodeDecodeError) else str(error)
        code = "not_decoded" if isinstance(error, UnicodeDecodeError) else "not_readable"
        code = "not_finite" if isinstance(error, NotFinite) else code
        return RawRecord(number, None, sink.getvalue().to_pybytes(), f"{code}: {told}; kept as an Arrow stream")


class NotFinite(ValueError):
    """A number that JSON has no word for, and that does not say that the cell is empty."""


def row_of(number: int, record: dict[str, Any]) -> RawRecord:
    """A row of a database; one with an infinite number, or too long a one, is kept as text: that number is spelled out there."""
    try:
        row = jsonable(record)
        if sum(len(value) for value in row.values() if isinstance(value, str)) > limits.MAX_RECORD_BYTES:
            content = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
            return RawRecord(number, None, content, f"too_long: over {limits.MAX_RECORD_BYTES:,} characters in one row")
        return RawRecord(number, row)
    except NotFinite as error:
        told = json.dumps(jsonable(record, str), ensure_ascii=False).encode("utf-8", "surrogatepass")
        return RawRecord(number, None, told, f"not_finite: {error}")


def infinite(number: float | Decimal) -> NoReturn:
    raise NotFinite(f"the number {number}")


def jsonable(value: Any, tell_infinite: Callable[[Any], Any] = infinite) -> Any:
    """The value as JSON has it: bytes as text where they are text, else base64; times and decimals as text; NaN as null.

    pandas writes NaN where a cell of numbers is empty.

    Raises:
        NotFinite: a number is infinite, unless `tell_infinite` says it otherwise.
    """
    if isinstance(value, dict):
        return {str(key): jsonable(inner, tell_infinite) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner, tell_infinite) for inner in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return None if math.isnan(value) else tell_infinite(value)
    return value if isinstance(value, float) else str(value)
