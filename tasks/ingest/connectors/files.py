"""Sources of kind `files`: on this machine, or behind a URL."""

from __future__ import annotations

from tasks.ingest.connectors.connector import Connector
from tasks.ingest.settings import Source


def connect_files(source: Source) -> Connector:
    """The connector for the source's path: a path on this machine or an fsspec URL."""
    if "://" in (source.path or ""):
        from tasks.ingest.connectors.remote import RemoteFiles

        return RemoteFiles(source)
    from tasks.ingest.connectors.local import LocalFiles

    return LocalFiles(source)
