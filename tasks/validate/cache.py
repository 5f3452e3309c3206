"""A batch's verdict, kept by content in .strop/cache/validate: a new batch costs what it costs, not what all of them cost.

The key is everything that the verdict depends on: the batch's bytes, its family's contract, the bound, people's decisions on
its own rows, and the code of this room. Losing the folder loses nothing: the work is then done again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.runtime import files, import_closure
from tasks.runtime.files import content_digest, link_or_copy, new_folder, write_json, write_parquet
from tasks.runtime.sealed_folder import is_whole, seal
from tasks.state.manifest import Batch
from tasks.validate.judge import Facts
from tasks.validate.settings import ValidateSettings

ACCEPTED = "accepted.parquet"
QUARANTINED = "quarantined.parquet"
FACTS = "facts.json"
BATCHES = "batches"
"""The folder of what is kept of a batch whatever the contract says:"""
KEPT_OF_A_BATCH = FAMILY, ROW_IDS = "family", "row_ids"
KEPT_BESIDE_THOSE_IN_USE = 64


@cache
def code_digest() -> str:
    """Digest of the code that decides on a batch, and of the library that writes the files."""
    return content_digest([import_closure.code_digest("tasks/validate"), pa.__version__])


def key_of(batch: Batch, contract: str, settings: ValidateSettings, decided: Iterable[tuple[str, str]]) -> str:
    """The verdict's key.

    Args:
        contract: digest of what holds for the batch's family.
        decided: (what, row id) of the decisions on the batch's own rows.
    """
    parts = [batch.batch, batch.sha256, batch.ordinal, batch.source, contract, sorted(decided)]
    said = settings.model_dump(mode="json", exclude={"processes"})  # how many did the work changes no byte
    return content_digest([*parts, said, code_digest()])[:32]


def family_of(batch: Batch) -> str | None:
    """The batch's family, if it was seen before: so that an old batch need not be opened."""
    return _read_text(_facts_beside(batch, FAMILY))


def row_ids_of(batch: Batch) -> frozenset[str] | None:
    """The batch's row ids, if it was seen before by this code."""
    place = _facts_beside(batch, ROW_IDS)
    try:
        return frozenset(pq.read_table(place, page_checksum_verification=True)["row_id"].to_pylist())
    except (OSError, pa.ArrowException, KeyError):  # not there, or damaged: the batch is opened again
        return None


def keep_identity(batch: Batch, family: str, row_ids: pa.Array) -> None:
    """Keeps what says which contract, and which decisions, concern the batch."""
    files.write_text(_facts_beside(batch, FAMILY), family)
    write_parquet(_facts_beside(batch, ROW_IDS), pa.table({"row_id": row_ids}), write_page_checksum=True)


def _facts_beside(batch: Batch, what: str) -> Path:
    key = content_digest([batch.sha256, code_digest()])[:32]
    return paths.VALIDATE_CACHE / BATCHES / f"{key}.{what}"


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def recall(key: str) -> Facts | None:
    """The facts of a verdict that is kept."""
    folder = _folder(key)
    if not is_whole(folder):
        return None
    try:
        facts = Facts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return facts


@contextlib.contextmanager
def keeping(key: str, facts: Facts) -> Iterator[Path]:
    """A folder to write ACCEPTED and QUARANTINED into; the verdict is kept whole if the block ends well, or not at all."""
    paths.VALIDATE_CACHE.mkdir(parents=True, exist_ok=True)
    temporary = new_folder(paths.VALIDATE_CACHE, ".writing-")
    try:
        yield temporary
        write_json(temporary / FACTS, facts.as_dict())
        seal(temporary)
        shutil.rmtree(_folder(key), ignore_errors=True)
        temporary.rename(_folder(key))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def hand_out(key: str, part: str, facts: Facts) -> None:
    """Puts the verdict's rows into the outputs; a part that would be empty is not written."""
    if facts.accepted:
        link_or_copy(_folder(key) / ACCEPTED, paths.VALIDATED / part)
    if facts.refused:
        link_or_copy(_folder(key) / QUARANTINED, paths.QUARANTINE / "validate" / part)


def forget_unused(used: set[str], batches: Iterable[Batch]) -> None:
    """Removes the oldest verdicts that this run did not use, beyond a few that a decision may bring back.

    Args:
        batches: all that there are: what is kept of others is removed alike.
    """
    for path in _oldest(paths.VALIDATE_CACHE.glob("*"), {*used, BATCHES}, KEPT_BESIDE_THOSE_IN_USE):
        shutil.rmtree(path, ignore_errors=True)
    current = {_facts_beside(batch, what).name for batch in batches for what in KEPT_OF_A_BATCH}
    beside = KEPT_BESIDE_THOSE_IN_USE * len(KEPT_OF_A_BATCH)
    for path in _oldest((paths.VALIDATE_CACHE / BATCHES).glob("*"), current, beside):
        path.unlink(missing_ok=True)


def _oldest(found: Iterable[Path], used: set[str], beside: int) -> list[Path]:
    """What is not used, without the newest of it, `beside` in number."""
    unused = [path for path in found if path.name not in used]
    return sorted(unused, key=lambda path: path.stat().st_mtime, reverse=True)[beside:]


def _folder(key: str) -> Path:
    return paths.VALIDATE_CACHE / key
