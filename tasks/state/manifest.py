"""The manifest: the raw batches in order of arrival. Written by `ingest`, read by every data room."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import paths
from tasks.errors import DataError
from tasks.runtime.files import damage_reason, read_json, write_json


@dataclass(frozen=True)
class Batch:
    """The new rows of one source file."""

    ordinal: int
    """Position in the order of arrival, from 1; never reused."""
    batch: str
    """16 hex characters of the digest of its records."""
    source: str
    rows: int
    sha256: str
    """Of the Parquet file."""

    @property
    def path(self) -> Path:
        return paths.RAW / self.source / f"{self.batch}.parquet"

    @property
    def part(self) -> str:
        """The file name of this batch in a data room's output; sorts in order of arrival."""
        return f"{self.ordinal:06d}-{self.batch}.parquet"


def read_manifest(path: Path = paths.MANIFEST) -> list[Batch]:
    """All batches in order of arrival; empty if nothing was ingested yet.

    Raises:
        DataError: the file is not a manifest.
    """
    if not path.exists():
        return []
    try:
        return [Batch(**entry) for entry in read_json(path)["batches"]]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"not a manifest ({damage_reason(error)})", where=str(path), fix="Restore it: dvc checkout data/raw.dvc"
        ) from error


def write_manifest(batches: list[Batch]) -> None:
    write_json(paths.MANIFEST, {"batches": [asdict(batch) for batch in batches]})
