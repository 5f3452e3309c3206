"""The raw batch: what `ingest` writes of one file, what `validate` reads, what `audit` recomputes.

It has every record of the source, in file order: parsed (`record`), or as bytes (`raw`, `error`). How to convert it to a row
(`shape`, `family`, `language`, `columns`) is stored with it, so that no later room needs the settings of sources: otherwise a new
source would make all old batches be validated again.
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
        ("record", pa.string()),  # JSON, keys in their order, numbers as written; null if it could not be parsed
        ("raw", pa.binary()),  # the bytes, only if the record could not be parsed
        ("error", pa.string()),  # why it could not be parsed, as "code: detail"
        ("file", pa.string()),  # path, relative to the project if it is below it
        ("line", pa.int64()),  # line (JSONL, CSV) or record number (JSON, Parquet), from 1
        ("shape", pa.string()),
        ("family", pa.string()),
        ("language", pa.string()),  # "auto", "en" or "zh", as the source declares
        ("columns", pa.string()),  # JSON: our field → the record's
        ("use", pa.string()),  # "train", "golden" or "benchmark", as the source declares
    ]
)
ERASED = "erased"
"""The `error` of a record whose content was erased on request, and its reason in quarantine. Its digest stays, so that the
batch keeps its name, and the record is not collected again from a source that still has it."""


def digest_of(record: Any) -> str:
    """A parsed record's identity, 32 hex characters: the same for equal values, whatever the order of their keys."""
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
    """The identity of a stored record: 32 hex characters."""
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
        again: how many earlier batches of the source have the same records in the same order (a record that is
            appended a second time is a new batch).
    """
    hasher = hashlib.sha256(f"{source}\n{again}\n".encode())
    for digest in digests:
        hasher.update(digest.encode() + b"\n")
    return hasher.hexdigest()[:16]
