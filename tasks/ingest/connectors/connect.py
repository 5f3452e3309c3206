"""From a source to its connector."""

from __future__ import annotations

import pkgutil

from tasks.errors import SourceError
from tasks.ingest.connectors.connector import Connector
from tasks.ingest.connectors.listing import Listing
from tasks.ingest.connectors.table import CONNECTORS
from tasks.ingest.secrets import without_secrets
from tasks.ingest.settings import Source


def connect(source: Source) -> Connector:
    """The connector of the source's kind. Nothing is opened."""
    connector: Connector = pkgutil.resolve_name(CONNECTORS[source.kind].connector)(source)
    return connector


def list_items(source: Source) -> Listing:
    """The source's items, without reading them.

    Raises:
        SourceError: the source is empty or cannot be reached; its message has no secrets.
    """
    try:
        return connect(source).list_items()
    except SourceError as error:
        raise without_secrets(error, source.model_dump()) from error


def require_source(source: Source) -> None:
    """Checks that the source exists and can be opened, without reading a record.

    Raises:
        SourceError: it does not exist, or cannot be reached; its message has no secrets.
    """
    try:
        connect(source).require()
    except SourceError as error:
        raise without_secrets(error, source.model_dump()) from error
