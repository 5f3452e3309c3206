"""Formats of a log record: a line of text, or a JSON object on one line."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime
from typing import Any

from tasks.errors import StropError
from tasks.runtime.redaction.text import redact
from tasks.runtime.visible_text import printable, printable_json

RUN = "STROP_RUN"
"""The variable with the id of the run in progress, for child processes."""
FIELDS = ("stage", "what", "where", "fix", "done", "total", "unit")
"""Extra fields of a record that are written to JSON."""


def error_fields(error: BaseException) -> dict[str, str | None]:
    """The parts of an error as extra fields: `logger.error(str(error), extra=error_fields(error))`."""
    return {"what": error.what, "where": error.where, "fix": error.fix} if isinstance(error, StropError) else {}


def time_of(record: logging.LogRecord) -> str:
    """ISO 8601 with the local time zone."""
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


MESSAGE = "%(message)s"
WITH_TIME = "%(asctime)s %(message)s"
DETAILED = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class TextFormatter(logging.Formatter):
    """A line of text, and the traceback if there is one; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return time_of(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the fields that are known.

    Args:
        stage: the stage of this process.
        is_ascii: escape other characters, for streams that cannot encode them.
    """

    def __init__(self, stage: str | None = None, is_ascii: bool = False) -> None:
        super().__init__()
        self.stage, self.is_ascii = stage, is_ascii

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "stage": self.stage,
            "run": os.environ.get(RUN),
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                entry[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        entry["exception"] = record.exc_text
        known = {key: value for key, value in entry.items() if value is not None}
        return printable_json(json.dumps(known, ensure_ascii=self.is_ascii, default=str))
