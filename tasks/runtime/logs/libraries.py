"""The levels of other libraries' loggers, in one table."""

from __future__ import annotations

import logging
import os

OURS = ("tasks", "flows")
"""The packages whose loggers have the level of the process."""
SILENT = logging.CRITICAL + 1

LIBRARY_LEVELS = {
    "alembic": logging.CRITICAL,  # reports every migration of a registry
    "asyncio": logging.CRITICAL,  # reports unfinished tasks of Prefect's client after Ctrl-C
    "dvc": logging.CRITICAL,  # its errors are raised as well, and reported in one line
    "great_expectations": logging.ERROR,
    "lm_eval": logging.ERROR,  # warns of a model that is loaded already
    "mlflow": logging.CRITICAL,  # prints the trace of an error that it also raises
    "prefect": logging.CRITICAL,  # it has all records in its API
    "transformers": logging.ERROR,  # reports the weights of a new head as missing
}
"""The lowest level of a library's records that are shown. Libraries that are not in the table: WARNING."""

VARIABLES = {
    "alembic": "MLFLOW_LOGGING_LEVEL",
    "mlflow": "MLFLOW_LOGGING_LEVEL",
    "prefect": "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL",
}
"""The libraries' own environment variables; a user's value wins over the table."""


def level_of(library: str) -> int:
    default = LIBRARY_LEVELS.get(library, logging.WARNING)
    configured = os.environ.get(VARIABLES.get(library, ""), "")
    return logging.getLevelNamesMapping().get(configured.upper(), default)


def set_library_level(library: str) -> None:
    """Sets the level of the library's logger. Call it after its import: some libraries set a level, and a handler, of their own."""
    set_level(logging.getLogger(library), level_of(library))


def set_level(logger: logging.Logger, level: int) -> None:
    """`setLevel` empties the caches of all loggers, of which libraries make thousands, also where the level stays."""
    if logger.level != level:
        logger.setLevel(level)


def silence(library: str) -> None:
    """Disables all loggers of the library, also those with a level of their own."""
    set_level(logging.getLogger(library), SILENT)
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == library:
            logger.disabled = True


def is_shown(record: logging.LogRecord) -> bool:
    """A filter for our handlers, which the root logger has too: libraries' records need the level of the table."""
    package = record.name.partition(".")[0]
    return package in OURS or record.levelno >= level_of(package)
