"""CSV and Parquet. A CSV row that is torn, or has too many or too few fields, is kept as the bytes it came in."""

from __future__ import annotations

import base64
import csv
import re
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import SourceError
from tasks.ingest.lines import MAX_RECORD_BYTES, Line, RawRecord, keeping_errors, read_lines

_UNDECODED = re.compile("[\ud800-\udfff]")
PARQUET_ROWS_AT_ONCE = 1024


def read_csv(path: Path, encoding: str) -> Iterator[RawRecord]:
    """The rows below the header, as objects of text. The separator is the one the header uses: comma, tab or semicolon.

    Raises:
        SourceError: the header cannot be read.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    encoding, lines = read_lines(path, encoding)
    feed = _Feed(lines, encoding)
    header = _header(path, feed)
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
        if any(_UNDECODED.search(value) for value in fields):
            yield feed.torn(f"not_decoded: not {encoding}")
        elif len(fields) != len(header):
            yield feed.torn(f"wrong_field_count: {len(fields)} fields, but the header has {len(header)}")
        else:
            yield RawRecord(feed.taken[0].number, record=dict(zip(header, fields, strict=True)))


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
        if not line.is_whole or self.taken_bytes > MAX_RECORD_BYTES:
            raise _TooLong(f"over {MAX_RECORD_BYTES:,} bytes in one record")
        return line.content.decode(self.encoding, keeping_errors(self.encoding))

    def give_back_all_but_first(self) -> None:
        self.waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def torn(self, error: str) -> RawRecord:
        content = b"".join(line.content for line in self.taken)
        return RawRecord(self.taken[0].number, raw=content, error=error)


def _header(path: Path, feed: _Feed) -> list[str] | None:
    """The column names, each once; None where the file is empty."""
    text = ""
    while not text.strip():
        try:
            text = next(feed)
        except StopIteration:
            return None
        except _TooLong as error:
            raise SourceError(f"its header is {error}", where=str(path), fix="Is it a CSV file?") from error
    feed.delimiter = max(",\t;", key=text.count)  # the comma, where none is there
    feed.waiting.appendleft(feed.taken.pop())
    try:
        names = next(csv.reader(feed, delimiter=feed.delimiter, strict=True))
    except (csv.Error, StopIteration, _TooLong) as error:
        raise SourceError(f"its header cannot be read ({error})", where=str(path), fix="Is it a CSV file?") from error
    if _UNDECODED.search("".join(names)):
        fix = "Say which it is: `encoding: gb18030`"
        raise SourceError(f"its header is not {feed.encoding}", where=f"{path} line {feed.taken[0].number}", fix=fix)
    header: list[str] = []
    for place, name in enumerate((name.strip() or f"column_{place}" for place, name in enumerate(names, 1)), start=1):
        header.append(name if name not in header else f"{name}_{place}")
    return header


def read_parquet(path: Path) -> Iterator[RawRecord]:
    """The rows of a Parquet file, a thousand at a time.

    Raises:
        SourceError: it is no Parquet file, or is cut off.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS_AT_ONCE):
                for record in _rows_of(batch, number):
                    number += 1
                    yield record
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        what = f"cannot be read as Parquet ({str(error).splitlines()[0][:200]})"
        raise SourceError(what, where=str(path), fix="Copy it again, whole") from error


def _rows_of(batch: Any, number: int) -> Iterator[RawRecord]:
    try:
        records = batch.to_pylist()
    except UnicodeDecodeError:  # one text among a thousand rows is not UTF-8: look at each row alone
        for place in range(batch.num_rows):
            yield _row_alone(batch.slice(place, 1), number + place + 1)
        return
    for place, record in enumerate(records, start=1):
        yield RawRecord(number + place, record=_jsonable(record))


def _row_alone(row: Any, number: int) -> RawRecord:
    import pyarrow as pa

    try:
        return RawRecord(number, record=_jsonable(row.to_pylist()[0]))
    except UnicodeDecodeError as error:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, row.schema) as writer:
            writer.write_batch(row)
        what = f"not_decoded: not utf-8 ({error.reason}); kept as an Arrow stream"
        return RawRecord(number, raw=sink.getvalue().to_pybytes(), error=what)


def _jsonable(value: Any) -> Any:
    """The value as JSON has it: bytes as text where they are text, else base64; times and decimals as text."""
    if isinstance(value, dict):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
