"""Whether a source can be read, before anything is read."""

from __future__ import annotations

import os

from tasks.errors import SourceError
from tasks.ingest.changes.scan import is_remote, list_items
from tasks.ingest.secrets import without_secrets
from tasks.ingest.settings import Source


def require_source(source: Source) -> None:
    """Checks that files, table, dataset or experiment exist and can be opened. No row is read, nothing is downloaded.

    Raises:
        SourceError: they do not, or cannot be reached.
    """
    try:
        _require(source)
    except SourceError as error:
        raise without_secrets(error, source.model_dump()) from error


def _require(source: Source) -> None:
    if source.kind == "sql":
        from tasks.ingest.connectors.sql import require_table

        require_table(source)
    elif source.kind == "traces":
        from tasks.ingest.connectors.traces import require_traces

        require_traces(source)
    elif source.kind == "hub":
        from tasks.ingest.connectors.hub import require_dataset

        require_dataset(source)
    else:
        items = list_items(source)
        if not is_remote(source):
            for name in items.found:
                require_readable(name)


def require_readable(file: str) -> None:
    """Raises SourceError where the file may not be read."""
    if not os.access(file, os.R_OK):
        raise SourceError("may not be read", where=file, fix=f"Mend its permissions: chmod u+r {file}")
