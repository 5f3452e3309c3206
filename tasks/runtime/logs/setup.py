"""The logging configuration of a process."""

from __future__ import annotations

import codecs
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.runtime.logs.formats import DETAILED, MESSAGE, WITH_TIME, JsonFormatter, TextFormatter
from tasks.runtime.logs.handlers import SharedFileHandler, StreamHandler, TerminalHandler
from tasks.runtime.logs.libraries import OURS, is_shown, set_level
from tasks.runtime.redaction.errors_and_logs import install as install_redaction

if TYPE_CHECKING:
    from rich.console import Console

LEVEL, FORMAT, FILE = "STROP_LOG_LEVEL", "STROP_LOG_FORMAT", "STROP_LOG_FILE"
"""Environment variables, which child processes inherit. `strop -v`, `-q` and `--log-format` set them."""
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("text", "json")
TRACEBACKS = "tasks.runtime.terminal_text"
"""The logger of uncaught exceptions."""

logger = logging.getLogger(__name__)


def set_up_logs(stage: str | None = None, stream: Literal["stderr", "stdout"] = "stderr") -> None:
    """Configures the loggers of this process from the environment. May be called again: the configuration is replaced.

    Args:
        stage: the stage that this process runs.
        stream: `stdout` in a worker whose standard output is the log of the process that started it. What its libraries log, and
            its tracebacks, go to its standard error: the other process reports a crash in one line.
    """
    install_redaction()
    handlers = [_stream_handler(stage, stream), *_file_handlers(stage)]
    others = handlers if stream == "stderr" else [_stream_handler(stage, "stderr"), *handlers[1:]]
    for package in OURS:
        _use(logging.getLogger(package), handlers)
        set_level(logging.getLogger(package), _level())
    _use(logging.getLogger(TRACEBACKS), others)
    # a root logger that Prefect has configured stays so: in a process that it started, the user's work pool decides
    if not any(type(handler).__module__.startswith("prefect.") for handler in logging.getLogger().handlers):
        _use(logging.getLogger(), others)
    logging.captureWarnings(is_json())
    _report_unknown(LEVEL, tuple(LEVELS))
    _report_unknown(FORMAT, FORMATS)


def _report_unknown(variable: str, values: tuple[str, ...]) -> None:
    if (value := os.environ.get(variable, "").lower()) and value not in values:
        logger.warning(f"{variable} is {value!r}: it is ignored. Set it to {', '.join(values[:-1])} or {values[-1]}")


def is_json() -> bool:
    return os.environ.get(FORMAT, "").lower() == "json"


def bar_console() -> Console | None:
    """The console for progress bars; None if log lines do not go to a terminal as text, or are quiet."""
    ours = logging.getLogger(OURS[0])
    if not ours.isEnabledFor(logging.INFO):
        return None
    return next((handler.console for handler in ours.handlers if isinstance(handler, TerminalHandler)), None)


def _level() -> int:
    return LEVELS.get(os.environ.get(LEVEL, "").lower(), logging.INFO)


def _stream_handler(stage: str | None, name: Literal["stderr", "stdout"]) -> logging.Handler:
    stream = getattr(sys, name)
    is_terminal = stream is not None and stream.isatty()
    handler = TerminalHandler(name) if is_terminal and not is_json() else StreamHandler(name)
    if is_json():
        handler.setFormatter(JsonFormatter(stage, is_ascii=not _is_utf8(getattr(stream, "encoding", None))))
    else:
        handler.setFormatter(TextFormatter(_text_format()))
    handler.addFilter(is_shown)
    return handler


def _file_handlers(stage: str | None) -> list[logging.Handler]:
    """The handler of the file that STROP_LOG_FILE names."""
    if not (name := os.environ.get(FILE)):
        return []
    handler = SharedFileHandler(Path(name))
    handler.setFormatter(JsonFormatter(stage) if is_json() else TextFormatter(DETAILED))
    handler.addFilter(is_shown)
    return [handler]


def _text_format() -> str:
    """A process with a log file is one of a schedule or a service, whose lines need a time."""
    if _level() <= logging.DEBUG:
        return DETAILED
    return WITH_TIME if os.environ.get(FILE) else MESSAGE


def _use(target: logging.Logger, handlers: list[logging.Handler]) -> None:
    """Replaces our handlers of a logger; others stay. Its records go to no other logger's handlers."""
    target.propagate = False
    for handler in list(target.handlers):
        if isinstance(handler, StreamHandler | SharedFileHandler):
            target.removeHandler(handler)
    for handler in handlers:
        target.addHandler(handler)


def _is_utf8(encoding: str | None) -> bool:
    try:
        return codecs.lookup(encoding or "utf-8").name == "utf-8"
    except LookupError:
        return False
