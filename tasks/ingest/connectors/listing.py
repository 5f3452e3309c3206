"""What a scan sees of a source: its items (files, objects, splits, a table), each as it is now, without reading them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Seen:
    """An item as it was when it was last read."""

    size: int
    """Bytes; 0 where that says nothing."""
    mtime_ns: int
    """Time of change, in nanoseconds since 1970; 0 where there is none."""
    sha256: str | None = None
    """Of a file's bytes. None where it was not read, because its source already has its `max_rows`."""
    lines: int | None = None
    """Line ends in a file whose last line is whole: where reading may go on when it grows."""
    stamp: str = ""
    """What else tells whether it changed: an object's etag, a table's highest watermark."""

    def is_like(self, other: Seen) -> bool:
        """Is it the same item, as far as can be told without reading it?"""
        return (self.size, self.mtime_ns, self.stamp) == (other.size, other.mtime_ns, other.stamp)


@dataclass
class Listing:
    """What a source holds now."""

    found: dict[str, Seen] = field(default_factory=dict)
    """The items to read, by name, in the order in which they are read."""
    waiting: set[str] = field(default_factory=set)
    """Files that may still be written: they are left for the next run."""
    left: list[str] = field(default_factory=list)
    """What a person should know of files that are not read."""
    withdrawn: set[str] = field(default_factory=set)
    """Traces that people judged, and of which they do not say (any more) that the answer was good."""
