"""What was worked out for a batch, kept by content in .strop/cache/curate. Losing the folder loses nothing: it is done again.

A sketch follows from the batch, what `validate` accepted of it, the settings and the code; a part also from all batches before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.runtime.files import new_folder
from tasks.runtime.sealed_folder import seal

SKETCHES = paths.CURATE_CACHE / "sketches"
PARTS = paths.CURATE_CACHE / "parts"


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder`, whole and sealed (tasks/runtime/sealed_folder.py), if the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_folder(folder.parent, ".making-")
    try:
        yield temporary
        seal(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_whole(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A small file; `pq.read_table` would take three times as long, and there may be thousands."""
    with pq.ParquetFile(path) as file:
        return file.read(columns)


def forget_unused(used: set[str], kept: int = 256) -> None:
    """Removes the oldest entries that this run did not use, beyond a few that a decision may bring back."""
    for place in (SKETCHES, PARTS):
        unused = [path for path in place.glob("*") if path.name not in used]
        unused.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in unused[kept:]:
            shutil.rmtree(path, ignore_errors=True)
