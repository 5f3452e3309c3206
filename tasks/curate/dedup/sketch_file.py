"""A batch's sketch on the disk: what compresses as parquet, what does not as plain arrays that are mapped, not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.curate.cache import read_whole
from tasks.curate.dedup.minhash import BANDS

Indices = npt.NDArray[np.int64]
LINES, BAND_FILE, PRINT_FILE = "lines.parquet", "bands.u32", "prints.u32"
LEAST_MAPPED_BYTES = 1 << 20

LINE_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),  # place in the raw batch
        ("row_id", pa.string()),
        ("use", pa.string()),
        ("is_synthetic", pa.bool_()),
        ("reason", pa.string()),  # why the row alone is dropped, or ""
        ("field", pa.string()),
        ("value", pa.string()),
        ("split", pa.string()),  # by the hash of its input, where no other row says otherwise
        ("key", pa.uint64()),  # equal for duplicates ...
        ("key2", pa.uint64()),  # ... together with this
        ("prompt", pa.uint64()),  # equal for rows of one source with the same prompt; 0 for none
        ("prints", pa.int32()),  # how many fingerprints it has
    ]
)


@dataclass(frozen=True)
class Sketch:
    """What the fold needs to know of rows."""

    lines: pa.Table
    """LINE_SCHEMA, a line a row."""
    bands: npt.NDArray[np.uint32]
    """(rows, BANDS)."""
    prints: npt.NDArray[np.uint32]
    """The fingerprints of passages and exchanges of all rows, one row after another."""

    def __len__(self) -> int:
        return int(self.lines.num_rows)

    def offsets(self) -> Indices:
        """(rows + 1,): row i has prints[offsets[i]:offsets[i + 1]]."""
        return np.concatenate([[0], np.cumsum(self.lines["prints"].to_numpy(), dtype=np.int64)])


class SketchWriter:
    """Writes the sketch of a batch into a folder, some rows at a time."""

    def __init__(self, folder: Path) -> None:
        self._lines = pq.ParquetWriter(folder / LINES, LINE_SCHEMA, compression="zstd", store_schema=False)
        self._files: list[BinaryIO] = [(folder / name).open("wb") for name in (BAND_FILE, PRINT_FILE)]

    def __enter__(self) -> SketchWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lines.close()
        for file in self._files:
            file.close()

    def add(self, sketch: Sketch) -> None:
        self._lines.write_table(sketch.lines)
        for file, array in zip(self._files, (sketch.bands, sketch.prints), strict=True):
            file.write(np.ascontiguousarray(array, dtype="<u4").tobytes())


def read_sketch(folder: Path) -> Sketch:
    """The sketch that a writer left; its arrays, where they are large, are mapped."""
    lines = read_whole(folder / LINES)
    return Sketch(lines, _mapped(folder / BAND_FILE).reshape(-1, BANDS), _mapped(folder / PRINT_FILE))


def read_ids(folder: Path) -> list[str]:
    """The rows' ids."""
    ids: list[str] = read_whole(folder / LINES, ["row_id"])["row_id"].to_pylist()
    return ids


def _mapped(path: Path) -> Any:
    if (
        path.stat().st_size < LEAST_MAPPED_BYTES
    ):  # a system lends some ten thousand maps; an empty file cannot be mapped
        return np.fromfile(path, dtype="<u4")
    return np.memmap(path, dtype="<u4", mode="r")
