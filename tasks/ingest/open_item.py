"""An item of a source, opened: its records, and where the images that they name are looked for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.ingest.changes.scan import is_remote
from tasks.ingest.connectors.listing import Seen
from tasks.ingest.readers import images
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.dispatch import read_records
from tasks.ingest.readers.lines import RawRecord, encoding_of
from tasks.ingest.readers.text_conll_parallel import partner_of
from tasks.ingest.settings import Source


@dataclass(frozen=True)
class Opened:
    records: Iterator[RawRecord]
    read_beside: images.ReadBeside
    """An image's path, as a record has it → its bytes."""
    is_whole: bool = True
    """False where only what came after the last run is read."""
    size: int = 0
    """Bytes, where that is known."""


@contextlib.contextmanager
def opened(source: Source, name: str, before: Seen | None) -> Iterator[Opened]:
    """The item's records, for as long as the block lasts.

    Args:
        before: as it was seen when it was last read, where only what came since is wanted.

    Raises:
        SourceError: it cannot be read.
    """
    beside = images.nowhere if source.image_folder is None else images.beside_file(name, source)
    if source.kind == "hub":
        from tasks.ingest.connectors.hub import read_split

        yield Opened(read_split(source, name), beside)
    elif source.kind == "sql":
        from tasks.ingest.connectors.sql import read_table

        yield Opened(read_table(source, before), beside, is_whole=before is None)
    elif source.kind == "traces":
        from tasks.ingest.connectors.traces import read_traces

        yield Opened(read_traces(source), beside, is_whole=False)
    elif is_remote(source):
        from tasks.ingest.connectors.remote import fetched, read_beside

        if source.image_folder is None:
            beside = functools.partial(read_beside, source, name, most_bytes=images.MAX_IMAGE_BYTES)
        with fetched(source, name) as (file, partner):
            yield Opened(read_records(file, source, beside=partner, shown=name), beside, size=file.stat().st_size)
    else:
        yield _file(source, name, before)


def _file(source: Source, name: str, before: Seen | None) -> Opened:
    beside = images.beside_file(name, source)
    size = Path(name).stat().st_size
    if before is not None and before.lines is not None and _ends_lines_with_a_byte(name, source):
        after = (before.size, before.lines)
        return Opened(read_records(Path(name), source, after=after), beside, False, size - before.size)
    partner = Path(partner_of(name, source.parallel)) if source.parallel else None
    return Opened(read_records(Path(name), source, beside=partner), beside, True, size)


def _ends_lines_with_a_byte(name: str, source: Source) -> bool:
    """Can a place in the file be gone to, and were its lines counted right? Not in an archive, nor in UTF-16."""
    content = Content(Path(name))
    return not content.archive and len("\n".encode(encoding_of(content, source.encoding)[0])) == 1
