"""Redacted errors and log records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from tasks import errors
from tasks.errors import StropError
from tasks.runtime.redaction.text import redact


def redacted_error(error: BaseException) -> BaseException:
    """The error itself, or, if it or one of its causes contains a secret, a copy of the same kind or name without it."""
    chain = list(chain_of(error))
    if all(redact(text) == text for cause in chain if (text := _text_of(cause))):
        return error
    if isinstance(error, StropError):
        clean: BaseException = type(error).__new__(type(error))
        clean.__dict__.update({key: redact(v) if isinstance(v, str) else v for key, v in vars(error).items()})
        clean.args = (str(clean),)
    else:
        clean = RuntimeError(f"{type(error).__name__}: {redact(_text_of(error))}")
    clean.__suppress_context__ = True
    return clean.with_traceback(error.__traceback__)


def _text_of(error: BaseException) -> str:
    try:
        return f"{error} {error.args!r}" if not isinstance(error, StropError) else str(error)
    except Exception:  # a library's exception whose text cannot be formatted  # noqa: BLE001
        return type(error).__name__


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, those of `raise … from None` too."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def install() -> None:
    """Redacts Strop's errors and the log records of all libraries from now on. May be called again."""
    errors.set_redaction(redact)
    factory = logging.getLogRecordFactory()
    if getattr(factory, "redacts", False):
        return

    def make(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = factory(*arguments, **options)
        try:
            text = record.getMessage()
        except Exception:  # a library's invalid record, which logging itself reports  # noqa: BLE001
            return record
        if (clean := redact(text)) != text:
            record.msg, record.args = clean, None
        if record.exc_info and isinstance(record.exc_info, tuple):
            text = logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
            if (clean := redact(text)) != text:
                record.exc_text, record.exc_info = clean, None
        return record

    make.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)
