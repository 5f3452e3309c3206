"""What a person should know of a source, though it stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.ingest.batches import declaration_of, declared_of
from tasks.ingest.connectors.listing import ItemState
from tasks.ingest.readers.dispatch import format_of
from tasks.ingest.settings import Source
from tasks.state.manifest import Batch


def rewritten(source: Source, name: str, now: ItemState, before: ItemState, start: str | None) -> Iterator[str]:
    """Where a file is another, and not only longer.

    Args:
        start: sha256 of its first bytes, as many as it had before; None where it is shorter.
    """
    if now.size < before.size:
        what = f"was edited or cut, and is shorter now ({before.size:,} to {now.size:,} bytes)"
        yield f"{name}: {what}; the rows that it held before are kept"
    elif start != before.sha256 and format_of(Path(name), source).is_line_based:
        yield f"{name}: was rewritten, not only appended to; the rows that it held before are kept"


def declared_otherwise(source: Source, batches: list[Batch]) -> Iterator[str]:
    """Where a source's rows came under another shape, family, language, columns or use."""
    now, then = declaration_of(source), declared_of(batches[-1])
    if now == then:
        return
    changed = ", ".join(f"{name} {then[name]} → {now[name]}" for name in now if then[name] != now[name])
    yield (
        f"source `{source.name}` is declared otherwise than when its rows came ({changed}). Those rows stay as they were;"
        f" to have them read so, too: strop data reread {source.name}"
    )
