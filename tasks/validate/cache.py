"""Cache of verdicts in .strop/cache/validate, keyed by content: a new batch costs its own size, not that of all batches.

The key covers everything that the verdict depends on: the batch's bytes, its family's contract, the bound, the decisions on its
rows, and the code of this room. The folder may be deleted: batches are then judged again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.runtime import files, import_closure
from tasks.runtime.files import content_digest, link_or_copy, write_parquet
from tasks.runtime.sealed_folder import is_whole, oldest_unused
from tasks.state.manifest import Batch
from tasks.validate.judge import Facts
from tasks.validate.settings import ValidateSettings

ACCEPTED = "accepted.parquet"
QUARANTINED = "quarantined.parquet"
FACTS = "facts.json"
BATCHES = "batches"
"""The folder for facts about a batch that do not depend on the contract:"""
IDENTITY = FAMILY, ROW_IDS = "family", "row_ids"
MAX_UNUSED = 64


@cache
def code_digest() -> str:
    """Digest of the code that judges a batch, and of the library that writes the files."""
    return content_digest([import_closure.code_digest("tasks/validate"), pa.__version__])


def key_of(batch: Batch, contract: str, settings: ValidateSettings, decided: Iterable[tuple[str, str]]) -> str:
    """The verdict's key.

    Args:
        contract: digest of the rules for the batch's family.
        decided: (what, row id) of the decisions on the batch's own rows.
    """
    parts = [batch.batch, batch.sha256, batch.ordinal, batch.source, contract, sorted(decided)]
    relevant = settings.model_dump(mode="json", exclude={"processes"})  # the result does not depend on it
    return content_digest([*parts, relevant, code_digest()])[:32]


def family_of(batch: Batch) -> str | None:
    """The batch's family, if it is cached: an old batch is not opened."""
    try:
        return _identity_path(batch, FAMILY).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def row_ids_of(batch: Batch) -> frozenset[str] | None:
    """The batch's row ids, if this code has cached them."""
    path = _identity_path(batch, ROW_IDS)
    try:
        return frozenset(pq.read_table(path, page_checksum_verification=True)["row_id"].to_pylist())
    except (OSError, pa.ArrowException, KeyError):  # missing or damaged: the batch is opened again
        return None


def store_identity(batch: Batch, family: str, row_ids: pa.Array) -> None:
    """Stores what selects the contract and the decisions for the batch: its family and row ids."""
    files.write_text(_identity_path(batch, FAMILY), family)
    write_parquet(_identity_path(batch, ROW_IDS), pa.table({"row_id": row_ids}), write_page_checksum=True)


def _identity_path(batch: Batch, what: str) -> Path:
    key = content_digest([batch.sha256, code_digest()])[:32]
    return paths.VALIDATE_CACHE / BATCHES / f"{key}.{what}"


def load_verdict(key: str) -> Facts | None:
    """The facts of a cached verdict; None where there is none, or it is damaged."""
    folder = folder_of(key)
    if not is_whole(folder):
        return None
    try:
        facts = Facts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return facts


def publish(key: str, part: str, facts: Facts) -> None:
    """Links the verdict's rows into the outputs; an empty part is not written."""
    if facts.accepted:
        link_or_copy(folder_of(key) / ACCEPTED, paths.VALIDATED / part)
    if facts.refused:
        link_or_copy(folder_of(key) / QUARANTINED, paths.QUARANTINE / "validate" / part)


def remove_unused(used: set[str], batches: Iterable[Batch]) -> None:
    """Removes the oldest verdicts that this run did not use, and cached facts about others than these batches, which are all."""
    for path in oldest_unused(paths.VALIDATE_CACHE.glob("*"), {*used, BATCHES}, MAX_UNUSED):
        shutil.rmtree(path, ignore_errors=True)
    current = {_identity_path(batch, what).name for batch in batches for what in IDENTITY}
    kept = MAX_UNUSED * len(IDENTITY)
    for path in oldest_unused((paths.VALIDATE_CACHE / BATCHES).glob("*"), current, kept):
        path.unlink(missing_ok=True)


def folder_of(key: str) -> Path:
    """The folder of a verdict: ACCEPTED, QUARANTINED and FACTS."""
    return paths.VALIDATE_CACHE / key
