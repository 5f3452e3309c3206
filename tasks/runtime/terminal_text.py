"""Makes terminal output safe: control characters in texts of rows, files and models are escaped, secrets are removed, and
characters outside the terminal's encoding are replaced.

    prepare_streams()               # at the entry of a process

A prepared stream does this for all output, from any library. rich writes control sequences of its own and gets a stream that
passes them; `tasks/runtime/console.py` escapes text before rich styles it. Output to a closed pipe is dropped: the work continues.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from tasks.runtime.redaction.errors_and_logs import install as install_redaction
from tasks.runtime.redaction.known import without_known
from tasks.runtime.redaction.text import redact
from tasks.runtime.visible_text import printable

logger = logging.getLogger(__name__)

PLAIN = {
    "✓": "ok", "✗": "no", "–": "-", "—": "-", "−": "-", "·": "-", "…": "...", "→": "->", "×": "x", "●": "*", "≥": ">=",
    "≤": "<=", "±": "+-", "“": '"', "”": '"', "‘": "'", "’": "'", "█": "#", "│": "|", "─": "-", "━": "-",
}  # fmt: skip
"""Replacements of Strop's own symbols for encodings that lack them."""


def can_encode(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plain(text: str, encoding: str | None) -> str:
    """Replaces Strop's own symbols by ASCII if the encoding lacks them; the stream handles other characters."""
    if can_encode(text, encoding):
        return text
    return "".join(PLAIN.get(c, c) if not can_encode(c, encoding) else c for c in text)


class Stream:
    """Wraps standard output or error. Other attributes are those of the stream."""

    def __init__(self, inner: Any, *, passes_control: bool = False) -> None:
        self._inner = inner
        self._passes_control = passes_control
        self._for_rich = self if passes_control else Stream(inner, passes_control=True)

    @property
    def rich_proxied_file(self) -> Any:
        """The stream that rich writes to, by rich's convention."""
        return self._for_rich

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, text: str) -> int:
        clean = without_known(text)
        if not self._passes_control:
            clean = self._escape(clean)
        with self._ignoring_closed_pipe():
            self._inner.write(plain(clean, self._inner.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._ignoring_closed_pipe():
            self._inner.flush()

    def _escape(self, text: str) -> str:
        if text.startswith("\r") and self._inner.isatty():  # a library's progress bar
            return "\r" + printable(text[1:])
        return printable(text)

    @contextlib.contextmanager
    def _ignoring_closed_pipe(self) -> Iterator[None]:
        """After `strop status | head -1` closed the pipe, output goes to /dev/null."""
        try:
            yield
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._inner.fileno())
                os.close(null)


def prepare_streams() -> None:
    """Wraps standard output and error, so that any text can be written, without secrets and control sequences."""
    install_redaction()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, Stream):
            continue
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Stream(stream))
    with contextlib.suppress(AttributeError, ValueError, OSError):
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    sys.excepthook = _log_traceback
    threading.excepthook = lambda hook: _log_traceback(hook.exc_type, hook.exc_value, hook.exc_traceback)


def _log_traceback(_: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Logs a traceback without secrets from the messages of libraries."""
    if error is not None and not isinstance(error, SystemExit):
        logger.critical(redact("".join(traceback.format_exception(error))).rstrip())
