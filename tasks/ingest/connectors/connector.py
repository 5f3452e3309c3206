"""What a connector does: it lists the items of a source (files, objects, splits, a table) and opens them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tasks.errors import SourceError
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.readers.images import ReadImage, image_reader, no_images
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source


@dataclass(frozen=True)
class OpenItem:
    """An item while it is open."""

    records: Iterator[RawRecord]
    read_image: ReadImage = no_images
    is_whole: bool = True
    """False if only records are read that are new since the last run."""
    size: int = 0
    """Bytes; 0 if unknown."""


class Connector(ABC):
    """One kind of source. Registered in table.py."""

    are_local_files = False
    """Whether item names are paths on this machine: unchanged files are recognised by digest, and grown ones are read on."""
    uses_mlflow = False
    """Whether it uses MLflow, whose address is global: two threads may not use it at the same time."""
    record_key: str | None = None
    """A field that identifies a record: a later record with the same value replaces the earlier one (corrections.py)."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def list_items(self) -> Listing:
        """The items, each with a stamp that changes with its content, without reading them.

        Raises:
            SourceError: the source cannot be reached, or is empty.
        """

    def require(self) -> None:
        """Checks that the source exists and can be opened. No record is read, nothing is downloaded.

        Raises:
            SourceError: it does not exist, or cannot be reached.
        """
        self.list_items()

    @abstractmethod
    def open_item(self, name: str, before: ItemState | None) -> AbstractContextManager[OpenItem]:
        """An item that `list_items` returned, open while the block runs.

        Args:
            before: its state when it was last read, for connectors that can read only newer records. Records that were
                collected before may be returned again: they are not collected twice.

        Raises:
            SourceError: it cannot be read.
        """

    def no_such_file(self) -> SourceError:
        """The error if nothing is at the source's path."""
        fix = "Put the file there, or fix the path in params.yaml (section `ingest`)"
        return SourceError("no such file", where=f"source `{self.source.name}`, path {self.source.path}", fix=fix)

    def open_records(self, records: Iterator[RawRecord], is_whole: bool = True) -> AbstractContextManager[OpenItem]:
        """For connectors that have nothing to close; images are read from the source's `image_folder`."""
        return nullcontext(OpenItem(records, image_reader(self.source), is_whole))
