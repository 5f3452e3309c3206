"""What can go wrong in a way that we foresaw.

    StropError            the user's situation: what, where, what to do next (exit code 1, never a traceback)
    ├── ConfigError       params.yaml, a template or the contract says something that it may not
    ├── SourceError       a source cannot be read, or has no rows
    ├── DataError         the data as a whole cannot be used (empty, one class only, ...)
    ├── BaseModelError    the base model is not there, or is not what it was
    ├── TrainingError     training cannot start or go on
    ├── GitError          no repository, or git refused
    ├── VersioningError   DVC refused, is locked, or a stage failed
    ├── RegistryError     the MLflow registry cannot be reached, or has no such version
    ├── AuditError        what is stored differs from its receipt
    └── DiskError         the disk is full, read-only, failing, or closed to this user

`assert` is for our own bugs; a StropError is for the user's situation.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

_redact: Callable[[str], str] = str
"""What is done to each text of an error: `tasks.runtime.redaction.errors_and_logs.install` takes secrets out."""


def redact_by(function: Callable[[str], str]) -> None:
    """From now on the texts of errors go through this function."""
    global _redact
    _redact = function


def one_line(error: object, limit: int = 300) -> str:
    """What an error says, on one line, without secrets and at most so long. A secret is removed before it could be cut."""
    return _redact(" ".join(str(error).split()))[:limit]


class StropError(Exception):
    """One clear line: `where: what. fix`.

    Args:
        what: what is wrong, as a sentence without the final full stop.
        where: the file, row, setting or address that it is about.
        fix: what to do next; a command where there is one.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = _redact(what.rstrip("."))
        self.where = where and _redact(where)
        self.fix = fix and _redact(fix)
        super().__init__(str(self))

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if line.endswith("\n"):  # a list ends in a line of its own
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


class DiskError(StropError):
    """The disk is full, read-only, failing, or closed to this user; or a folder or link stands in a file's place."""


FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EACCES, errno.EPERM)
NO_FILE = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
FULL_BY_TEXT = (
    "no space left on device",
    "database or disk is full",
    "disk quota exceeded",
    "(os error 28)",
    "storagefull",
)
"""As SQLite, safetensors, tokenizers and pyarrow write it, whose errors have no number."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, in turn."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def disk_error(error: BaseException) -> DiskError | None:
    """What a disk refused, where that is why a library or the system raised an error; None for other errors."""
    for cause in causes(error):
        number = cause.errno if isinstance(cause, OSError) else None
        place = (cause.filename if isinstance(cause, OSError) else None) or "the disk"
        text = str(cause).lower()
        if number in FULL or any(words in text for words in FULL_BY_TEXT):
            fix = "Free some (`dvc gc -w -T`, an old .strop/checkpoints), then run again: nothing is lost"
            return DiskError("no space left", where=str(place), fix=fix)
        if number == errno.EFBIG:
            fix = "Raise this user's limit (ulimit -f), then run again: nothing is lost"
            return DiskError("a file may not grow so large", where=str(place), fix=fix)
        if number == errno.EROFS or "readonly database" in text:
            return DiskError(
                "the file system or file is read-only", where=str(place), fix="Make it writable, then run again"
            )
        if number == errno.EIO or "disk i/o error" in text:
            fix = "See the state of the disk (dmesg, smartctl), then run again"
            return DiskError("the disk could not be read or written (I/O error)", where=str(place), fix=fix)
    if isinstance(error, OSError) and error.errno in CLOSED:
        fix = "Mend its permissions, then run again"
        return DiskError("may not be written or read", where=str(error.filename or "the disk"), fix=fix)
    if isinstance(error, OSError) and error.errno in NO_FILE and error.filename:
        what = f"something else stands in the place of a file or folder ({error.strerror})"
        return DiskError(
            what, where=str(error.filename), fix="Remove it, and bring back what was there (git, dvc checkout)"
        )
    return None


def told_by_disk(error: BaseException) -> str | None:
    """One line for the situations of a disk that we foresee; None for others."""
    found = disk_error(error)
    return None if found is None else str(found)


def without_sql(error: BaseException) -> str:
    """The reason of a database's error in one line, without the statement and its parameters, which hold data."""
    text = str(getattr(error, "orig", None) or error)
    return one_line(text.split("[SQL:")[0].split("(Background on this error")[0])
