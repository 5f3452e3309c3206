"""The items of a source (files, objects, splits, a table) and their states, as known without reading them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ItemState:
    """An item at the time when it was listed or read."""

    size: int = 0
    """Bytes; 0 if unknown."""
    mtime_ns: int = 0
    """Time of change, in nanoseconds since 1970; 0 if unknown."""
    sha256: str | None = None
    """Of a file's bytes. None where it was not read, because its source already has its `max_rows`."""
    lines: int | None = None
    """Line ends in a file whose last line is complete: where reading may continue when the file grows."""
    stamp: str = ""
    """What else changes with the content: an object's etag, a table's highest watermark."""

    def is_same(self, other: ItemState) -> bool:
        """Whether the item is unchanged, as far as is known without reading it."""
        return (self.size, self.mtime_ns, self.stamp) == (other.size, other.mtime_ns, other.stamp)


@dataclass
class Listing:
    """What a source contains now."""

    items: dict[str, ItemState] = field(default_factory=dict)
    """The items to read, by name, in the order of reading."""
    unsettled: set[str] = field(default_factory=set)
    """Files that may still be written; the next run reads them."""
    notes: list[str] = field(default_factory=list)
    """Messages about files that are not read."""
    withdrawn: set[str] = field(default_factory=set)
    """Keys of records (`Connector.record_key`) that may have been collected and are no longer wanted."""
