"""From a source to its connector."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager

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
    """As `Connector.list_items`, its error without secrets."""
    with _errors_without_secrets(source):
        return connect(source).list_items()


def require_source(source: Source) -> None:
    """As `Connector.require`, its error without secrets."""
    with _errors_without_secrets(source):
        connect(source).require()


@contextmanager
def _errors_without_secrets(source: Source) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise without_secrets(error, source.model_dump()) from error
