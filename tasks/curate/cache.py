"""Cache of results per batch in .strop/cache/curate, keyed by content. The folder may be deleted: results are then computed again.

Signatures depend on the batch, the rows that `validate` accepted, the settings and the code; a part also on all batches before.
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

SIGNATURES = paths.CURATE_CACHE / "sketches"
PARTS = paths.CURATE_CACHE / "parts"


@contextmanager
def storing(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder`, sealed (tasks/runtime/sealed_folder.py), if the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_folder(folder.parent, ".making-")
    try:
        yield temporary
        seal(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Reads a small file; `pq.read_table` would take three times as long, and there may be thousands."""
    with pq.ParquetFile(path) as file:
        return file.read(columns)


def remove_unused(used: set[str], kept: int = 256) -> None:
    """Removes the oldest entries that this run did not use; the `kept` newest stay, since a decision may need them again."""
    for folder in (SIGNATURES, PARTS):
        unused = [path for path in folder.glob("*") if path.name not in used]
        unused.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in unused[kept:]:
            shutil.rmtree(path, ignore_errors=True)
