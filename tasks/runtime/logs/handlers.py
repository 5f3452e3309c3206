"""Handlers: standard error, the terminal, and a file that several processes share."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from functools import cached_property
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from filelock import FileLock
    from rich.console import Console

MAX_FILE_BYTES = 5_000_000
OLDER_FILES = 4
"""Older files that are kept: strop.log.1 is the newest of them."""
LOCK_SECONDS = 10.0
DESCRIPTORS = {"stdout": 1, "stderr": 2}

STYLES = {logging.DEBUG: "dim", logging.WARNING: "yellow", logging.ERROR: "bold red", logging.CRITICAL: "red"}


class StreamHandler(logging.Handler):
    """Writes to the stream that `sys.stderr` (or `sys.stdout`) is at the time of the record.

    A stream that cannot be written to (a closed pipe, a full disk) does not stop the work.
    """

    def __init__(self, name: Literal["stderr", "stdout"]) -> None:
        super().__init__()
        self.stream_name = name

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record), record.levelno)
        except OSError:
            pass
        except Exception:  # a record with invalid arguments  # noqa: BLE001
            self.handleError(record)

    def write(self, line: str, level: int) -> None:
        stream = getattr(sys, self.stream_name)
        stream.write(f"{line}\n")
        stream.flush()


class TerminalHandler(StreamHandler):
    """Writes styled lines to a terminal, above the progress bar if there is one."""

    @cached_property
    def console(self) -> Console:
        """Made for the first record: its import takes longer than a command's own code."""
        from tasks.runtime.console import VisibleConsole

        stream = getattr(sys, self.stream_name)
        return VisibleConsole(file=getattr(stream, "rich_proxied_file", stream), highlight=False)

    def write(self, line: str, level: int) -> None:
        from rich.text import Text

        self.console.print(Text(line, STYLES.get(level, "")), soft_wrap=True)


def write_from_signal_handler(logger: logging.Logger, message: str) -> None:
    """Writes a warning to standard error without the locks of logging and of the stream, which the interrupted code may hold."""
    record = logger.makeRecord(logger.name, logging.WARNING, "", 0, message, (), None)
    for handler in logging.getLogger(logger.name.partition(".")[0]).handlers:
        if isinstance(handler, StreamHandler):
            with contextlib.suppress(OSError):
                os.write(DESCRIPTORS[handler.stream_name], f"{handler.format(record)}\n".encode())


class SharedFileHandler(RotatingFileHandler):
    """A rotated file for several processes: a lock is held for each record, for which the file is opened again, because another
    process may have rotated it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            maxBytes=MAX_FILE_BYTES,
            backupCount=OLDER_FILES,
            encoding="utf-8",
            delay=True,
            errors="backslashreplace",
        )

    @cached_property
    def _between_processes(self) -> FileLock:
        from filelock import FileLock

        return FileLock(f"{self.baseFilename}.lock", timeout=LOCK_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            with self._between_processes:
                super().emit(record)
                if self.stream is not None:
                    self.stream.close()
                    self.stream = None  # type: ignore[assignment]
        except OSError:  # a full disk, or a lock that is held for too long: the line is on standard error as well
            pass

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
