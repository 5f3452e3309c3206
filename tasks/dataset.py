"""The dataset: the fold of `data/curated`'s parts, one a batch, in the order in which the batches came."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.row import CURATED_SCHEMA


def read_dataset(folder: Path = paths.CURATED) -> pa.Table:
    """All curated rows (CURATED_SCHEMA), oldest batch first; an empty table where there are none."""
    parts = [pq.read_table(path, schema=CURATED_SCHEMA) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(parts) if parts else CURATED_SCHEMA.empty_table()
