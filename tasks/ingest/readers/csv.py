"""CSV. A row that is malformed, or has too many or too few fields, is kept as bytes."""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.errors import SourceError
from tasks.ingest.readers import lines as limits
from tasks.ingest.readers.column_check import require_once
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.lines import KEEP, UNDECODED, Line, read_lines
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source


def read_csv(content: Content, source: Source) -> Iterator[RawRecord]:
    """The rows below the header, as objects of text. The separator is that of the header: comma, tab or semicolon.

    Raises:
        SourceError: the header cannot be read.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # only between records: within quotes a blank line is content
    encoding, lines = read_lines(content, source.encoding, skips_blank=lambda: not feed.record_lines)
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
            # an unclosed quote includes the lines below: only its own line is malformed, the others are read again
            feed.return_all_but_first()
            yield feed.malformed(f"bad_quote: {error}")
            continue
        if not fields or (len(fields) == 1 and not fields[0].strip()):
            continue
        if any(UNDECODED.search(value) for value in fields):
            yield feed.malformed(f"not_decoded: not {encoding}")
        elif len(fields) != len(header):
            yield feed.malformed(f"wrong_field_count: {len(fields)} fields, but the header has {len(header)}")
        else:
            yield RawRecord(feed.record_lines[0].number, dict(zip(header, fields, strict=True)))


class _TooLong(Exception):
    pass


@dataclass
class _Feed:
    """Lines of text for the csv module, with the bytes of the present record."""

    lines: Iterator[Line]
    encoding: str
    delimiter: str = ","
    record_lines: list[Line] = field(default_factory=list)
    record_bytes: int = 0
    pending: deque[Line] = field(default_factory=deque)

    def begin(self) -> None:
        """Starts a new record with the next line."""
        self.record_lines.clear()
        self.record_bytes = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self.pending.popleft() if self.pending else next(self.lines)
        self.record_lines.append(line)
        self.record_bytes += len(line.content)
        if not line.is_whole or self.record_bytes > limits.MAX_RECORD_BYTES:
            raise _TooLong(f"over {limits.MAX_RECORD_BYTES:,} bytes in one record")
        if len(self.record_lines) > limits.MAX_RECORD_LINES:
            raise _TooLong(f"over {limits.MAX_RECORD_LINES:,} lines in one record")
        return line.content.decode(self.encoding, KEEP)

    def return_all_but_first(self) -> None:
        self.pending.extendleft(reversed(self.record_lines[1:]))
        del self.record_lines[1:]

    def malformed(self, error: str) -> RawRecord:
        content = b"".join(line.content for line in self.record_lines)
        return RawRecord(self.record_lines[0].number, raw=content, error=error)


def _header(content: Content, feed: _Feed) -> list[str] | None:
    """The column names, without repetitions; None for an empty file."""
    text, fix = "", "Check that it is a CSV file"
    while not text.strip():
        try:
            text = next(feed)
        except StopIteration:
            return None
        except _TooLong as error:
            raise SourceError(f"its header is {error}", where=content.name, fix=fix) from error
    feed.delimiter = max(",\t;", key=text.count)  # a comma if it has none of them
    feed.pending.appendleft(feed.record_lines.pop())
    try:
        names = next(csv.reader(feed, delimiter=feed.delimiter, strict=True))
    except (csv.Error, StopIteration, _TooLong) as error:
        raise SourceError(f"its header cannot be read ({error})", where=content.name, fix=fix) from error
    if UNDECODED.search("".join(names)):
        where, fix = f"{content.name} line {feed.record_lines[0].number}", "Set its encoding: `encoding: gb18030`"
        raise SourceError(f"its header is not {feed.encoding}", where=where, fix=fix)
    named = [name.strip() for name in names]
    require_once([name for name in named if name], content.name)
    header: dict[str, None] = {}
    for number, name in enumerate(named, start=1):
        while not name or name in header:  # a column without a name gets a unique one
            name = f"{name}_{number}" if name else f"column_{number}"
        header[name] = None
    return list(header)
