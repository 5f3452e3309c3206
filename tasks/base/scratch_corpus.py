"""The training text of a new tokenizer: the texts of the rows in data/raw, read in chunks."""

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

CHUNK_ROWS = 1024
MEGABYTE = 10**6
RANK_DIGITS = 16
"""Hex characters of a record's digest that are its rank."""


def read_texts(batches: Sequence[Batch], megabytes: int) -> Iterator[str]:
    """The texts of the batches' rows, in order; of more than `megabytes`, those of the rows with the lowest hashes.

    Rows of `golden` and `benchmark` sources are left out. Memory: 16 bytes per row, and one chunk of text.

    Raises:
        BaseModelError: a batch is not on the disk.
    """
    remaining_bytes = megabytes * MEGABYTE
    max_rank = _max_rank(batches, remaining_bytes)
    for batch in batches:
        for digests, records in _chunks(batch):
            for rank, record in zip(_ranks(digests), records.to_pylist(), strict=True):
                if rank > max_rank or record is None:
                    continue
                for text in texts_of(json.loads(record)):
                    if remaining_bytes <= 0:
                        return
                    # `ignore` drops lone surrogates, and a character that is cut off
                    part = text.encode("utf-8", "ignore")[:remaining_bytes].decode("utf-8", "ignore")
                    remaining_bytes -= len(part.encode())
                    yield part


def texts_of(value: Any) -> Iterator[str]:
    """The texts in a record, in order. A single ASCII word is an id, a URL, a role or a label, and not a text."""
    if isinstance(value, str):
        if not value.isascii() or len(value.split(maxsplit=1)) > 1:
            yield value
    elif isinstance(value, dict):
        for key in value:
            yield from texts_of(value[key])
    elif isinstance(value, list):
        for element in value:
            yield from texts_of(element)


def _max_rank(batches: Sequence[Batch], remaining_bytes: int) -> int:
    """The maximum rank of the rows to read, for about `remaining_bytes` bytes of text."""
    ranks: list[npt.NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for batch in batches:
        for digests, records in _chunks(batch):
            ranks.append(_ranks(digests))
            lengths.append(pc.fill_null(pc.binary_length(records), 0).to_numpy(zero_copy_only=False).astype(np.int64))
    rank, length = np.concatenate(ranks), np.concatenate(lengths)
    if length.sum() <= remaining_bytes:
        return 2**64 - 1
    order = np.argsort(rank, kind="stable")
    last = int(np.searchsorted(np.cumsum(length[order]), remaining_bytes))
    return int(rank[order[last]])


def _ranks(digests: Any) -> npt.NDArray[np.uint64]:
    return np.array([int(digest[:RANK_DIGITS], 16) for digest in digests.to_pylist()], np.uint64)


def _chunks(batch: Batch) -> Iterator[tuple[Any, Any]]:
    """Digests and records of the training rows; a record that could not be parsed is null."""
    if not batch.path.exists():
        what = f"batch {batch.batch}, whose rows its tokenizer is trained on, is not on the disk"
        raise BaseModelError(what, where=str(batch.path), fix="Restore it: dvc checkout data/raw.dvc")
    with pq.ParquetFile(batch.path) as file:
        columns = [name for name in ("digest", "record", "use") if name in file.schema_arrow.names]
        for chunk in read_batches(file, CHUNK_ROWS, columns=columns):
            if "use" in columns:  # older batches have no such column
                chunk = chunk.filter(pc.equal(pc.fill_null(chunk["use"], "train"), "train"))
            yield chunk["digest"], chunk["record"].cast("string")
