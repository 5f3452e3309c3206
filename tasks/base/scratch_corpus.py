"""The text that a new tokenizer is trained on: what the rows in data/raw say, read in portions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import BaseModelError
from tasks.runtime.files import read_batches
from tasks.state.manifest import Batch

PORTION = 1024
MEGABYTE = 10**6
HASHED = 16
"""Hex characters of a record's digest that rank it."""


def read_texts(batches: Sequence[Batch], megabytes: int) -> Iterator[str]:
    """The texts of the batches' rows, in their order; of more than `megabytes`, those of the rows of lowest hash.

    Rows of sources that are `golden` or `benchmark` are left out. Memory: 16 bytes a row, and a portion of text.

    Raises:
        BaseModelError: a batch is not on the disk.
    """
    room = megabytes * MEGABYTE
    highest = _highest_rank(batches, room)
    for batch in batches:
        for digests, records in _portions(batch):
            for rank, record in zip(_ranks(digests), records.to_pylist(), strict=True):
                if rank > highest or record is None:
                    continue
                for text in texts_of(json.loads(record)):
                    if room <= 0:
                        return
                    kept = text.encode("utf-8", "ignore")[:room].decode("utf-8", "ignore")  # no half surrogates
                    room -= len(kept.encode())
                    yield kept


def texts_of(value: Any) -> Iterator[str]:
    """The texts inside a record, in its order. A word of ASCII alone is an id, an address, a role or a label: no text."""
    if isinstance(value, str):
        if not value.isascii() or len(value.split(maxsplit=1)) > 1:
            yield value
    elif isinstance(value, dict):
        for key in value:
            yield from texts_of(value[key])
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)


def _highest_rank(batches: Sequence[Batch], room: int) -> int:
    """The rank up to which the rows are read, so that about `room` bytes are."""
    ranks: list[npt.NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for batch in batches:
        for digests, records in _portions(batch):
            ranks.append(_ranks(digests))
            lengths.append(pc.fill_null(pc.binary_length(records), 0).to_numpy(zero_copy_only=False).astype(np.int64))
    rank, length = np.concatenate(ranks), np.concatenate(lengths)
    if length.sum() <= room:
        return 2**64 - 1
    order = np.argsort(rank, kind="stable")
    place = int(np.searchsorted(np.cumsum(length[order]), room))
    return int(rank[order[place]])


def _ranks(digests: Any) -> npt.NDArray[np.uint64]:
    return np.array([int(digest[:HASHED], 16) for digest in digests.to_pylist()], np.uint64)


def _portions(batch: Batch) -> Iterator[tuple[Any, Any]]:
    """Digests and records of the rows that may be learned from; a record that did not parse is null."""
    if not batch.path.exists():
        what = f"batch {batch.batch}, whose rows its tokenizer is trained on, is not on the disk"
        raise BaseModelError(what, where=str(batch.path), fix="Bring it back: dvc checkout data/raw.dvc")
    with pq.ParquetFile(batch.path) as file:
        columns = [name for name in ("digest", "record", "use") if name in file.schema_arrow.names]
        for portion in read_batches(file, PORTION, columns=columns):
            if "use" in columns:  # an older batch does not say
                portion = portion.filter(pc.equal(pc.fill_null(portion["use"], "train"), "train"))
            yield portion["digest"], portion["record"].cast("string")
