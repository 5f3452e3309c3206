"""A batch's signatures on disk: facts about its rows as Parquet, hashes (which do not compress) as plain arrays, memory-mapped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.curate.dedup.index import Indices
from tasks.curate.dedup.minhash import BANDS

FACTS_FILE, BAND_FILE, FINGERPRINT_FILE = "lines.parquet", "bands.u32", "prints.u32"
LEAST_MAPPED_BYTES = 1 << 20

FACT_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),  # in the raw batch
        ("row_id", pa.string()),
        ("use", pa.string()),
        ("is_synthetic", pa.bool_()),
        ("is_served", pa.bool_()),  # made of feedback on a served answer
        ("reason", pa.string()),  # why the row is dropped by its own filters, or ""
        ("field", pa.string()),
        ("value", pa.string()),
        ("split", pa.string()),  # by the hash of its input, unless another row determines it
        ("key", pa.uint64()),  # equal for duplicates ...
        ("key2", pa.uint64()),  # ... together with this
        ("prompt", pa.uint64()),  # equal for rows of one source with the same prompt; 0 for none
        ("prints", pa.int32()),  # how many fingerprints it has
    ]
)


@dataclass(frozen=True)
class Signatures:
    """MinHash signatures, fingerprints and facts of rows: everything that deduplication needs, without the text."""

    facts: pa.Table
    """(rows,) FACT_SCHEMA."""
    bands: npt.NDArray[np.uint32]
    """(rows, BANDS)."""
    fingerprints: npt.NDArray[np.uint32]
    """Fingerprints of passages and exchanges, all rows concatenated."""

    def __len__(self) -> int:
        return int(self.facts.num_rows)

    def offsets(self) -> Indices:
        """(rows + 1,): row i has fingerprints[offsets[i]:offsets[i + 1]]."""
        return np.concatenate([[0], np.cumsum(self.facts["prints"].to_numpy(), dtype=np.int64)])


class SignatureWriter:
    """Writes the signatures of a batch into a folder, in portions of rows."""

    def __init__(self, folder: Path) -> None:
        self._lines = pq.ParquetWriter(folder / FACTS_FILE, FACT_SCHEMA, compression="zstd", store_schema=False)
        self._files: list[BinaryIO] = [(folder / name).open("wb") for name in (BAND_FILE, FINGERPRINT_FILE)]

    def __enter__(self) -> SignatureWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lines.close()
        for file in self._files:
            file.close()

    def add(self, signatures: Signatures) -> None:
        self._lines.write_table(signatures.facts)
        for file, array in zip(self._files, (signatures.bands, signatures.fingerprints), strict=True):
            file.write(np.ascontiguousarray(array, dtype="<u4").tobytes())


def read_signatures(folder: Path) -> Signatures:
    """The signatures in a folder; large arrays are memory-mapped."""
    facts = read_parquet(folder / FACTS_FILE)
    return Signatures(
        facts, _memory_mapped(folder / BAND_FILE).reshape(-1, BANDS), _memory_mapped(folder / FINGERPRINT_FILE)
    )


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Reads a small file; `pq.read_table` would take three times as long, and there may be thousands."""
    with pq.ParquetFile(path) as file:
        return file.read(columns)


def read_ids(folder: Path) -> list[str]:
    """The rows' ids."""
    ids: list[str] = read_parquet(folder / FACTS_FILE, ["row_id"])["row_id"].to_pylist()
    return ids


def _memory_mapped(path: Path) -> Any:
    # a process may have some ten thousand mappings, and an empty file cannot be mapped
    if path.stat().st_size < LEAST_MAPPED_BYTES:
        return np.fromfile(path, dtype="<u4")
    return np.memmap(path, dtype="<u4", mode="r")
