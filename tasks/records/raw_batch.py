"""The raw batch: what `ingest` writes of one file, what `validate` reads, what `audit` recomputes.

Every record of the source is there, in file order: parsed (`record`), or as the bytes it came in (`raw`, `error`).
How it is to be read (`shape`, `family`, `language`, `columns`) stands beside it, so that no later room needs the
sources' settings: a new source would otherwise validate every old batch again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from tasks.records.ordered_json import comparable, dumps, loads

RAW_SCHEMA = pa.schema(
    [
        ("digest", pa.string()),  # 32 hex characters: the record's identity
        ("record", pa.string()),  # JSON, keys in their order, numbers as written; null if the record did not parse
        ("raw", pa.binary()),  # the bytes as they came, only if the record did not parse
        ("error", pa.string()),  # why it did not parse, as "code: detail"
        ("file", pa.string()),  # as found, relative to the project where it lies below it
        ("line", pa.int64()),  # line (JSONL, CSV) or record number (JSON, Parquet), from 1
        ("shape", pa.string()),
        ("family", pa.string()),
        ("language", pa.string()),  # "auto", "en" or "zh", as the source declares
        ("columns", pa.string()),  # JSON: our field → the record's
        ("use", pa.string()),  # "train", "golden" or "benchmark", as the source declares
    ]
)
ERASED = "erased"
"""The `error` of a record that was emptied on request, and the reason that it stands in quarantine with. Its digest stays, so
that the batch keeps its name, and a source that still holds the record is not collected again."""


def record_text(record: Any) -> str:
    """A parsed record as it is stored: JSON without spaces that is always valid UTF-8.

    Its columns are sorted, which no format orders; within a column the keys of objects stand as they came.
    """
    return identified(record)[0]


def digest_of(record: Any) -> str:
    """A parsed record's identity, 32 hex characters: equal values have one, whatever the order of their keys."""
    return identified(record)[1]


def identified(record: Any) -> tuple[str, str]:
    """A parsed record as it is stored, and its identity."""
    if isinstance(record, dict):
        record = dict(sorted(record.items()))
    text = dumps(record)
    is_flat = isinstance(record, dict) and all(type(value) is str or value is None for value in record.values())
    canonical = text if is_flat else comparable(record)
    if not _is_utf8(text):
        text, canonical = dumps(record, ensure_ascii=True), dumps(json.loads(canonical), ensure_ascii=True)
    return text, _digest(b"record\0" + canonical.encode())


def record_digest(record: str | None, raw: bytes | None) -> str:
    """A record's identity, from what is stored of it: 32 hex characters."""
    return _digest(b"raw\0" + (raw or b"")) if record is None else digest_of(loads(record))


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, from an escape such as \ud83d alone
        return False
    return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def batch_id_of(source: str, digests: Iterable[str], again: int = 0) -> str:
    """A batch's id: 16 hex characters of the digest of its source and its records, in order.

    Args:
        again: how many earlier batches of the source hold the same records in the same order (a record that was
            appended a second time is a batch of its own).
    """
    hasher = hashlib.sha256(f"{source}\n{again}\n".encode())
    for digest in digests:
        hasher.update(digest.encode() + b"\n")
    return hasher.hexdigest()[:16]
