"""Errors with a message for the user.

    StropError            an error that the user can fix: what, where, what to do next (exit code 1, never a traceback)
    ├── ConfigError       an invalid setting in params.yaml, a template or the contract
    ├── SourceError       a source cannot be read, or has no rows
    ├── DataError         the data as a whole cannot be used (empty, one class only, ...)
    ├── BaseModelError    the base model is missing, or has changed
    ├── TrainingError     training cannot start or continue
    ├── GitError          no repository, or git failed
    ├── VersioningError   DVC failed or is locked, or a stage failed
    ├── RegistryError     the MLflow registry cannot be reached, or has no such version
    ├── AuditError        stored data differ from their receipt
    ├── SigningError      a key cannot sign, or a signature that is required is missing or invalid
    └── DiskError         the disk is full, read-only or failing, or access is denied

`assert` is for bugs in Strop; a StropError is for errors that the user can fix.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator

_redact: Callable[[str], str] = str
"""Applied to every text of an error; `tasks.runtime.redaction.errors_and_logs.install` sets the removal of secrets."""


def set_redaction(function: Callable[[str], str]) -> None:
    """Applies this function to the texts of all errors from now on."""
    global _redact
    _redact = function


def one_line(error: object, limit: int = 300) -> str:
    """The message of an error on one line, without secrets, of at most `limit` characters. Secrets are removed before it is cut."""
    return _redact(" ".join(str(error).split()))[:limit]


class StropError(Exception):
    """An error with a one-line message: `where: what. fix`.

    Args:
        what: the problem, as a sentence without the final full stop.
        where: the file, row, setting or address of the problem.
        fix: what to do next; a command if possible.
        parts: (where, what) of each of several errors that `what` lists, for a report with one row per error.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, parts: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.what = _redact(what.rstrip("."))
        self.parts = tuple((_redact(place), _redact(text)) for place, text in parts)
        self.where = where and _redact(where)
        self.fix = fix and _redact(fix)
        super().__init__(str(self))

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if line.endswith("\n"):  # a multi-line list ends with a line break
            return f"{line}{self.fix or ''}"
        return f"{line}. {self.fix}" if self.fix else f"{line}."


class ConfigError(StropError):
    pass


class SourceError(StropError):
    pass


class DataError(StropError):
    pass


class BaseModelError(StropError):
    pass


class TrainingError(StropError):
    pass


class GitError(StropError):
    pass


class VersioningError(StropError):
    pass


class RegistryError(StropError):
    pass


class AuditError(StropError):
    pass


class SigningError(StropError):
    pass


class DiskError(StropError):
    """The disk is full, read-only or failing, access is denied, or a path is a folder or link instead of a file."""


FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM)
NO_FILE = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
FULL_BY_TEXT = (
    "no space left on device",
    "database or disk is full",
    "disk quota exceeded",
    "(os error 28)",
    "storagefull",
)
"""Messages of SQLite, safetensors, tokenizers and pyarrow, whose errors have no errno."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its chain of causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def disk_error(error: BaseException) -> DiskError | None:
    """The DiskError for an error whose cause is a disk problem; None for other errors."""
    for cause in causes(error):
        number = cause.errno if isinstance(cause, OSError) else None
        path = (cause.filename if isinstance(cause, OSError) else None) or "the disk"
        text = str(cause).lower()
        if number in FULL or any(words in text for words in FULL_BY_TEXT):
            fix = "Free some (`dvc gc -w -T`, an old .strop/checkpoints), then run again: nothing is lost"
            return DiskError("no space left", where=str(path), fix=fix)
        if number == errno.EFBIG:
            fix = "Raise this user's limit (ulimit -f), then run again: nothing is lost"
            return DiskError("the file size limit is reached", where=str(path), fix=fix)
        if number == errno.EROFS or "readonly database" in text:
            return DiskError(
                "the file system or file is read-only", where=str(path), fix="Make it writable, then run again"
            )
        if number == errno.EIO or "disk i/o error" in text:
            fix = "Check the state of the disk (dmesg, smartctl), then run again"
            return DiskError("the disk could not be read or written (I/O error)", where=str(path), fix=fix)
    if isinstance(error, OSError) and error.errno in DENIED:
        fix = "Fix its permissions, then run again"
        return DiskError("access is denied", where=str(error.filename or "the disk"), fix=fix)
    if isinstance(error, OSError) and error.errno in NO_FILE and error.filename:
        what = f"not a file or folder as expected ({error.strerror})"
        return DiskError(what, where=str(error.filename), fix="Remove it, and restore the original (git, dvc checkout)")
    return None


def disk_message(error: BaseException) -> str | None:
    """A one-line message for disk problems; None for other errors."""
    problem = disk_error(error)
    return None if problem is None else str(problem)


def without_sql(error: BaseException) -> str:
    """The reason of a database error in one line, without the SQL statement and its parameters, which contain data."""
    text = str(getattr(error, "orig", None) or error)
    return one_line(text.split("[SQL:")[0].split("(Background on this error")[0])
