"""Logs of JSON lines that only grow: decisions, erasures, stored answers. A crash or a full disk leaves whole lines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import DataError
from tasks.runtime.files import canonical_json, is_conflict

T = TypeVar("T")


def append_line(path: Path, value: Any) -> None:
    append_lines(path, [value])


def append_lines(path: Path, values: list[Any]) -> None:
    """Appends JSON lines in one write, flushed to disk; an incomplete last line from a crash is ended first.

    If the write fails (the disk is full), the log is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(canonical_json(value).encode() + b"\n" for value in values)
    with path.open("a+b", buffering=0) as file:  # a buffer would be written again when the file is closed
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if size and file.read(1) != b"\n":
            lines = b"\n" + lines
        try:
            while lines:
                lines = lines[file.write(lines) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def read_log(path: Path, entry: Callable[..., T], what: str, fix: str) -> list[T]:
    """The entries of a log written by `append_line`, oldest first; empty if there is no file.

    Args:
        entry: builds an entry from the fields of a line; raises ValueError or TypeError if they are invalid.
        what: the name of an entry in messages, with its article.
        fix: what a user should do about an invalid line.

    Raises:
        DataError: a line is not a valid entry.
    """
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        if is_conflict(line):
            fix = f"Keep the lines of both sides in {path}, and remove the lines with the markers"
            raise DataError("unresolved merge conflict", where=where, fix=fix)
        try:
            entries.append(entry(**json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"not {what} ({error})", where=where, fix=fix) from error
    return entries
