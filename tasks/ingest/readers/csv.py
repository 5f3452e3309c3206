"""CSV. A row that is torn, or has too many or too few fields, is kept as the bytes it came in."""

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
    """The rows below the header, as objects of text. The separator is the one the header uses: comma, tab or semicolon.

    Raises:
        SourceError: the header cannot be read.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # between records alone: within quotes a blank line is content
    encoding, lines = read_lines(content, source.encoding, skips_blank=lambda: not feed.taken)
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
    named = [name.strip() for name in names]
    require_once([name for name in named if name], content.name)
    header: dict[str, None] = {}
    for place, name in enumerate(named, start=1):
        while not name or name in header:  # a column without a name gets one that no other has
            name = f"{name}_{place}" if name else f"column_{place}"
        header[name] = None
    return list(header)
