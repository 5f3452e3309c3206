"""What a model said before: a parquet file a model (.strop/predictions/), so that unchanged rows are not asked again.

A model is named by all that shapes its answers: base, weights, precision, settings, our code and the libraries. A row
is named by its tokens. Next round's champion is this round's candidate, so its answers to old rows are there already.

A batch's make-up can change the last bit of a logit, and so, in a near-tie, a greedy token: a remembered answer is then
as good as a fresh one, not always equal to it. To forget all: rm -r .strop/predictions
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.runtime.files import content_digest, write_parquet
from tasks.runtime.import_closure import code_digest

SAVE_EVERY_SECONDS = 30.0

Item = TypeVar("Item")


def model_key(*shaping: Any) -> str:
    """The name of a model's file: a digest of what shapes its answers, and of the code that asks."""
    code = code_digest(*(f"tasks/evaluate/{name}.py" for name in ("inference", "heads", "likelihood", "perplexity")))
    return content_digest([shaping, code, [version(name) for name in ("torch", "transformers", "peft")]])[:32]


def row_key(*arrays: Any) -> str:
    """The name of a row: a digest of its tokens (and mask)."""
    digest = hashlib.sha256()
    for array in arrays:
        numbers = np.asarray(array, dtype=np.int64)
        digest.update(len(numbers).to_bytes(8, "little") + numbers.tobytes())
    return digest.hexdigest()[:32]


class Remembered:
    """Values by row key, in a file that is replaced whole, so that a crash loses seconds of work and never the file."""

    def __init__(self, name: str, value: pa.DataType) -> None:
        self.path = paths.PREDICTION_CACHE / f"{name}.parquet"
        self.schema = pa.schema([("key", pa.string()), ("value", value)])
        self.values: dict[str, Any] = {}
        self._saved_at = time.monotonic()
        try:
            table = pq.read_table(self.path, page_checksum_verification=True)
        except (OSError, pa.ArrowException, UnicodeDecodeError):  # not there, or damaged: the work is done again
            return
        if table.schema.equals(self.schema):
            self.values = dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))

    def add(self, values: dict[str, Any]) -> None:
        """Takes new values, and saves now and then."""
        self.values |= values
        if time.monotonic() - self._saved_at >= SAVE_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        table = pa.table({"key": list(self.values), "value": list(self.values.values())}, schema=self.schema)
        write_parquet(self.path, table, write_page_checksum=True)
        self._saved_at = time.monotonic()


def recalled(
    remembered: Remembered,
    keys: Sequence[str],
    items: Sequence[Item],
    ask: Callable[[list[Item]], Sequence[Any]],
    *,
    size: Callable[[Item], int],
    portion: int,
    on_rows: Callable[[int], None],
) -> list[Any]:
    """The value of each item: as it is remembered, or as `ask` tells, which is asked the longest ones first, equal ones once.

    Args:
        keys: the name of each item.
        size: by how much of them there is, items of like size are asked together.
        portion: so many are asked between two looks at the clock.
        on_rows: hears how many items are done.
    """
    new = {key: item for key, item in zip(keys, items, strict=True) if key not in remembered.values}
    on_rows(len(items) - len(new))
    order = sorted(new, key=lambda key: (-size(new[key]), key))
    for start in range(0, len(order), portion):
        chosen = order[start : start + portion]
        remembered.add(dict(zip(chosen, ask([new[key] for key in chosen]), strict=True)))
        on_rows(len(chosen))
    if new:
        remembered.save()
    return [remembered.values[key] for key in keys]
