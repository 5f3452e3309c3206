"""The fields of rows (`instruction`, `output`, …) as columns of their predictions, which have only rendered prompts and targets."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from tasks.dataset.read import read_dataset
from tasks.expression.expression import TEXT_COLUMNS


def with_row_texts(rows: pa.Table, names: Collection[str]) -> pa.Table:
    """The table with those of TEXT_COLUMNS among `names`, from the present dataset by `row_id`. A row that is no longer in it has
    empty texts.

    Raises:
        DataError: a raw batch is missing.
    """
    missing = [name for name in TEXT_COLUMNS if name in names]
    if not missing:
        return rows
    dataset = read_dataset(rows["row_id"].to_pylist())
    positions = pc.index_in(rows["row_id"], value_set=dataset["row_id"].combine_chunks())
    for name in missing:
        rows = rows.append_column(name, pc.fill_null(dataset[name].take(positions), ""))
    return rows
