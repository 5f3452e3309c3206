"""Whether items of the sources appeared, vanished or changed since the last ingestion: by `stat`, etag or watermark.

The states of the items are in .strop/scan.json. Without it everything is read again, and records in raw are not added twice.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, field

from tasks import paths
from tasks.errors import SourceError
from tasks.ingest.connectors.connect import list_items
from tasks.ingest.connectors.listing import ItemState
from tasks.ingest.settings import IngestSettings
from tasks.runtime.files import content_digest, file_digest, write_text


@dataclass
class ScanState:
    settings: str = ""
    """Digest of the sources' settings."""
    manifest: str = ""
    """Digest of the manifest after that ingestion."""
    is_complete: bool = False
    """False if a source could not be read: the next run tries again."""
    files: dict[str, dict[str, ItemState]] = field(default_factory=dict)
    """Source → item → its state."""


def read_state() -> ScanState:
    """The state after the last ingestion; an empty one if the file is missing or unreadable."""
    try:
        entry = json.loads(paths.SCAN.read_text(encoding="utf-8"))
        files = {
            source: {name: ItemState(*state) for name, state in states.items()}
            for source, states in entry["files"].items()
        }
        return ScanState(entry["settings"], entry["manifest"], entry["is_complete"], files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ScanState()


def write_state(state: ScanState) -> None:
    files = {source: {name: astuple(item) for name, item in states.items()} for source, states in state.files.items()}
    write_text(paths.SCAN, json.dumps({**vars(state), "files": files}))


def settings_digest(settings: IngestSettings) -> str:
    return content_digest(settings.model_dump(mode="json"))


def manifest_digest() -> str:
    """Digest of the manifest's bytes; empty if there is none."""
    return file_digest(paths.MANIFEST) if paths.MANIFEST.is_file() else ""


def anything_new(settings: IngestSettings) -> bool:
    """Whether an item is new, changed or gone since the last ingestion, or a source could not be read."""
    state = read_state()
    if not state.is_complete or state.settings != settings_digest(settings) or state.manifest != manifest_digest():
        return True
    for source in settings.sources:
        try:
            listing = list_items(source)
        except SourceError:
            return True
        states = state.files.get(source.name, {})
        are_same = listing.items.keys() == states.keys() - listing.unsettled
        if not are_same or any(not now.is_same(states[name]) for name, now in listing.items.items()):
            return True
    return False
