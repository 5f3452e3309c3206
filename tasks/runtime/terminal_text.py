"""What is written to a terminal: text of rows, files and models with its control characters visible, secrets taken out, and
every character in a form that the terminal's encoding can carry.

    prepare_streams()               # at the entry of a process

A stream that was prepared does it for everything written to it, by whichever library; rich, which writes control sequences
of its own, gets a stream that lets them pass, and `flows/runtime/console.py` makes text visible before rich styles it.
A pipe whose reader is gone swallows what is written: the work goes on.
"""

from __future__ import annotations

import contextlib
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
from tasks.runtime.visible_text import shown

PLAIN = {
    "✓": "ok", "✗": "no", "–": "-", "—": "-", "−": "-", "·": "-", "…": "...", "→": "->", "×": "x", "●": "*", "≥": ">=",
    "≤": "<=", "±": "+-", "“": '"', "”": '"', "‘": "'", "’": "'", "█": "#", "│": "|", "─": "-", "━": "-",
}  # fmt: skip
"""Our own marks, where an encoding has none of them."""


def can_carry(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plain(text: str, encoding: str | None) -> str:
    """Our own marks in ASCII, where the encoding cannot carry them; other characters are left to the stream."""
    if can_carry(text, encoding):
        return text
    return "".join(PLAIN.get(each, each) if not can_carry(each, encoding) else each for each in text)


class Stream:
    """Standard output or error, prepared. Everything else is the stream's own."""

    def __init__(self, inner: Any, *, passes_control: bool = False) -> None:
        self._inner = inner
        self._passes_control = passes_control
        self._for_rich = self if passes_control else Stream(inner, passes_control=True)

    @property
    def rich_proxied_file(self) -> Any:
        """Where rich writes, by its own convention."""
        return self._for_rich

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, text: str) -> int:
        shown_text = without_known(text)
        if not self._passes_control:
            shown_text = self._visible(shown_text)
        with self._outliving_its_reader():
            self._inner.write(plain(shown_text, self._inner.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._outliving_its_reader():
            self._inner.flush()

    def _visible(self, text: str) -> str:
        if text.startswith("\r") and self._inner.isatty():  # a progress bar of a library
            return "\r" + shown(text[1:])
        return shown(text)

    @contextlib.contextmanager
    def _outliving_its_reader(self) -> Iterator[None]:
        """`strop status | head -1`: what follows goes nowhere, and nothing fails for it."""
        try:
            yield
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._inner.fileno())
                os.close(nowhere)


def prepare_streams() -> None:
    """Makes standard output and error carry whatever is written, and show no secret and no control sequence of a text."""
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
    sys.excepthook = _print_traceback
    threading.excepthook = lambda hook: _print_traceback(hook.exc_type, hook.exc_value, hook.exc_traceback)


def _print_traceback(_: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """A traceback, without what is shaped like a secret in the messages of libraries."""
    if error is not None and not isinstance(error, SystemExit):
        print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)
