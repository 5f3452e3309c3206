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
    └── AuditError        what is stored differs from its receipt

`assert` is for our own bugs; a StropError is for the user's situation.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

_redact: Callable[[str], str] = str
"""What is done to each text of an error: `tasks.redaction.install` takes secrets out."""


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


def told_by_disk(error: OSError) -> str | None:
    """One line for the situations of a disk that we foresee; None for others."""
    place = _redact(str(error.filename or "the disk"))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}: no space left. Free some (`dvc gc -w`, an old .strop/checkpoints), then run again: nothing is lost."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{place}: may not be written or read. Mend its permissions, then run again."
    return None
