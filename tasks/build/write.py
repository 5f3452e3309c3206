"""The files of a recipe: `<folder>/<recipe>/<number>.jsonl`, each written once, and the source that collects them."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tasks.errors import DataError
from tasks.runtime.files import canonical_json, write_text

Row = dict[str, Any]


class Source(Protocol):
    """The part of a source in params.yaml that is used here."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str | None: ...


def not_yet_written(rows: Sequence[Row], folder: Path) -> list[Row]:
    """The rows that are in no file of the folder, whatever their parents.

    Raises:
        DataError: a line of a file there is not a row.
    """
    written = set()
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            try:
                written.add(_content(json.loads(line)) if line else "")
            except (ValueError, AttributeError) as error:
                fix = "Only `strop data build` writes these files: restore or remove it"
                raise DataError(f"not a row ({error})", where=f"{path} line {number}", fix=fix) from error
    return [row for row in rows if _content(row) not in written]


def write_rows(rows: Sequence[Row], folder: Path) -> Path:
    """Writes the rows into the folder's next file, atomically."""
    numbers = [int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdecimal()]
    path = folder / f"{max(numbers, default=0) + 1:04d}.jsonl"
    write_text(path, "".join(f"{canonical_json(row)}\n" for row in rows))
    return path


def source_of(path: Path, sources: Sequence[Source]) -> str | None:
    """The declared source whose path covers a file."""
    for source in sources:
        if source.path is None or "://" in source.path:
            continue
        pattern = f"{source.path}/**/*" if Path(source.path).is_dir() else source.path
        if any(Path(match).resolve() == path.resolve() for match in glob.glob(pattern, recursive=True)):
            return source.name
    return None


def _content(row: Row) -> str:
    """A row without its origin."""
    return canonical_json({name: value for name, value in row.items() if isinstance(value, str)})
