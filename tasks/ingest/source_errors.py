"""Errors of the disk while a source is read, as errors of the source; those of data/raw are not caught here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import SourceError
from tasks.ingest.readers.raw_record import RawRecord


@contextmanager
def disk_errors_of(name: str) -> Iterator[None]:
    """Raises SourceError for an OSError in the block."""
    try:
        yield
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise SourceError(what, where=name, fix="Check that it exists and is complete, then run again") from error


def records_with_disk_errors(name: str, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """The records. Raises SourceError for an OSError while they are read."""
    with disk_errors_of(name):
        yield from records
