"""Errors as Prefect may store them, in the states and logs of a run: an error of Strop with its message, others with their kind
and place only. A library's message may quote a row, whose text could not be erased from there.

    @task
    @with_storable_errors()
    def ingest(config): ...

The whole error, with its causes, is in the project's log file, without secrets.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks import paths
from tasks.errors import StropError, disk_error
from tasks.runtime.logs.formats import DETAILED, TextFormatter
from tasks.runtime.logs.handlers import SharedFileHandler
from tasks.runtime.logs.setup import FILE
from tasks.runtime.redaction.errors_and_logs import redacted_error
from tasks.runtime.run_origin import project

logger = logging.getLogger(__name__)

OF_THE_SERVER = ("prefect", "httpx", "httpcore")
"""Packages whose errors are about Prefect's server, which `reporting_lost_server` recognises."""
TEMPORARY = (ConnectionError, TimeoutError)
"""Kinds by which a task is retried."""
OURS = ("tasks", "flows")


class LibraryError(Exception):
    """An error without its text. Its class has the name of the library's."""


@contextmanager
def with_storable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of any library  # noqa: BLE001
        clean = storable(error)
        clean.__traceback__ = error.__traceback__
        raise clean from None  # Prefect logs causes, too


def storable(error: Exception) -> Exception:
    """The error to raise in its place; the whole one is written to the log file."""
    if isinstance(error, LibraryError) or type(error).__module__.partition(".")[0] in OF_THE_SERVER:
        return _redacted(error)
    if isinstance(error, StropError):
        if error.__cause__ is not None:  # a second time, in the flow around the task, it has none
            _write(error, "the origin of an error")
        return _redacted(error)
    log = _write(error, "an unexpected error")
    if problem := disk_error(error):
        return problem
    temporary = tuple(kind for kind in TEMPORARY if isinstance(error, kind))[:1]
    kind = type(type(error).__name__, (LibraryError, *temporary), {"__module__": type(error).__module__})
    clean: Exception = kind(f"in {_place(error)}. What it says, which may quote rows: {log}")
    return clean


def _redacted(error: Exception) -> Exception:
    clean = redacted_error(error)
    assert isinstance(clean, Exception)
    return clean


def _place(error: Exception) -> str:
    """Its last line in Strop or a plugin, and in the library that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{'/'.join(Path(frame.filename).parts[-3:])} line {frame.lineno}" for frame in frames]
    own = [place for place, frame in zip(places, frames, strict=True) if set(OURS) & set(Path(frame.filename).parts)]
    return ", from ".join(dict.fromkeys([*places[-1:], *own[-1:]])) or "an unknown place"


def _write(error: Exception, message: str) -> str:
    """Writes the whole error to the log file, to no other handler; returns the file's path."""
    path = Path(os.environ.get(FILE) or Path(project()) / paths.LOG)
    handler = SharedFileHandler(path)
    handler.setFormatter(TextFormatter(DETAILED))
    information = (type(error), error, error.__traceback__)
    handler.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, message, (), information))
    handler.close()
    return str(path)
