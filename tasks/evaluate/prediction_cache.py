"""Cached predictions: a parquet file per model (.strop/predictions/), so that unchanged rows are not computed again.

The key of a model covers everything that affects its answers: base, weights, precision, settings, our code and the libraries.
The key of a row is a digest of its tokens. Next round's champion is this round's candidate, so its predictions are cached.

Losses and heads are computed in padded batches, whose composition can change the last bit: a cached value is equivalent to a
new one, but not always equal. Generated answers do not depend on their batch, on the processors and models that
docs/decisions/0023-generation.md names. To clear the cache: rm -r .strop/predictions
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.runtime.files import content_digest, write_parquet
from tasks.runtime.import_closure import closure_digest
from tasks.runtime.plugin_table import STAGES
from tasks.runtime.plugins import loaded_plugins

SAVE_EVERY_SECONDS = 30.0
PREDICTING = tuple(
    f"tasks/evaluate/{name}.py" for name in ("inference", "heads", "likelihood", "perplexity", "code/samples")
)
SCORING = frozenset({Path("tasks/evaluate/predictions.py")})
"""Scores are computed from cached predictions: another metric does not change them."""

Item = TypeVar("Item")


def model_key(*inputs: Any) -> str:
    """The name of a model's file: a digest of everything that affects its predictions, and of the code that computes them.

    Plugins that add only to tables such as the metrics change no prediction; the others may.
    """
    plugins = [[plugin.name, plugin.digest] for plugin in loaded_plugins() if plugin.stages == STAGES]
    code = [closure_digest(*PREDICTING, without=SCORING), *plugins]
    return content_digest([inputs, code, [version(name) for name in ("torch", "transformers", "peft")]])[:32]


def row_key(*arrays: Any) -> str:
    """The key of a row: a digest of its tokens (and mask)."""
    digest = hashlib.sha256()
    for array in arrays:
        numbers = np.asarray(array, dtype=np.int64)
        digest.update(len(numbers).to_bytes(8, "little") + numbers.tobytes())
    return digest.hexdigest()[:32]


class PredictionCache:
    """Values by row key, in a file that is replaced as a whole: a crash loses some seconds of work, never the file."""

    def __init__(self, name: str, value: pa.DataType) -> None:
        self.path = paths.PREDICTION_CACHE / f"{name}.parquet"
        self.facts_path = self.path.with_suffix(".json")
        """What is known about the server that generated them, if one did."""
        self.schema = pa.schema([("key", pa.string()), ("value", value)])
        self.values: dict[str, Any] = {}
        self._saved_at = time.monotonic()
        try:
            table = pq.read_table(self.path, page_checksum_verification=True)
        except (OSError, pa.ArrowException, UnicodeDecodeError):  # missing or damaged: the values are computed again
            return
        if table.schema.equals(self.schema):
            self.values = dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))

    def add(self, values: dict[str, Any]) -> None:
        """Adds new values; saves every SAVE_EVERY_SECONDS."""
        self.values |= values
        if time.monotonic() - self._saved_at >= SAVE_EVERY_SECONDS:
            self.save()

    def clear(self) -> None:
        """Forgets all values, on the disk too."""
        self.values.clear()
        self.path.unlink(missing_ok=True)

    def save(self) -> None:
        table = pa.table({"key": list(self.values), "value": list(self.values.values())}, schema=self.schema)
        write_parquet(self.path, table, write_page_checksum=True)
        self._saved_at = time.monotonic()


def cached_values(
    cache: PredictionCache,
    keys: Sequence[str],
    items: Sequence[Item],
    compute: Callable[[list[Item]], Sequence[Any]],
    *,
    size: Callable[[Item], int],
    portion: int,
    on_rows: Callable[[int], None],
) -> list[Any]:
    """The value of each item, from the cache or from `compute`, which gets the longest items first and equal ones once.

    Args:
        keys: the key of each item.
        size: the length of an item; items of similar length are computed together.
        portion: number of items per call of `compute`.
        on_rows: called with the number of finished items.
    """
    new = {key: item for key, item in zip(keys, items, strict=True) if key not in cache.values}
    on_rows(len(items) - len(new))
    order = sorted(new, key=lambda key: (-size(new[key]), key))
    for start in range(0, len(order), portion):
        batch = order[start : start + portion]
        cache.add(dict(zip(batch, compute([new[key] for key in batch]), strict=True)))
        on_rows(len(batch))
    if new:
        cache.save()
    return [cache.values[key] for key in keys]
