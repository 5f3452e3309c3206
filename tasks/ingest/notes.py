"""Messages about changes of a source that do not stop the ingestion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.ingest.batches import changes_of
from tasks.ingest.connectors.listing import ItemState
from tasks.ingest.readers.dispatch import format_of
from tasks.ingest.settings import Source
from tasks.state.manifest import Batch


def rewritten(source: Source, name: str, now: ItemState, before: ItemState, start: str | None) -> Iterator[str]:
    """A message if a file was changed, and not only appended to.

    Args:
        start: sha256 of as many first bytes as it had before; None if it is shorter.
    """
    if now.size < before.size:
        what = f"was edited or truncated ({before.size:,} to {now.size:,} bytes)"
        yield f"{name}: {what}; the rows collected before are kept"
    elif start != before.sha256 and format_of(Path(name), source).is_line_based:
        yield f"{name}: was rewritten, not only appended to; the rows collected before are kept"


def changed_declaration(source: Source, batches: list[Batch]) -> Iterator[str]:
    """A message if a source's last rows were collected with another shape, family, language, columns or use."""
    if changes := ", ".join(changes_of(batches[-1], source)):
        yield (
            f"source `{source.name}`: its declaration changed after rows were collected ({changes}). Those rows are unchanged;"
            f" to apply it to them: strop data reread {source.name}"
        )
