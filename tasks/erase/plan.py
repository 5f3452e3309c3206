"""What an erasure takes: the rows, their raw records and images. Kept on the disk until all is done."""

from __future__ import annotations

import getpass
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset.locate_rows import places_of
from tasks.dataset.read import read_parts
from tasks.errors import DataError
from tasks.records.parse import fill_up, read_raw_file, to_rows
from tasks.runtime.files import damage_reason, read_json, write_json
from tasks.state.manifest import Batch, read_manifest


@dataclass(frozen=True)
class Plan:
    ids: list[str]
    """Of the rows."""
    digests: list[str]
    """Of their raw records."""
    batches: list[str]
    """The raw batches that hold them."""
    images: list[str]
    """sha256 of images that no other record names."""
    pins: list[tuple[str, str]]
    """Row, split: rows that took their side from one of these, and keep it."""
    who: str
    when: str
    why: str
    held: tuple[tuple[str, str], ...] = ()
    """Place and md5 of the objects in DVC's cache that must go, once they were looked for."""


def make_plan(row_ids: Collection[str], why: str) -> Plan | None:
    """Finds what must go with the rows: all their copies, the same records wherever they came, and what was made from them.

    Returns:
        None where nothing of the rows is left.
    """
    records = _records({*row_ids, *made_from(row_ids)})
    if not records:
        return None
    ids = sorted({each.row_id for each in records} | set(row_ids))
    digests = {each.digest for each in records}
    images = {image for each in records for image in _images_of(each.record)}
    images -= _images_elsewhere(read_manifest(), digests, images)
    return Plan(
        ids=ids,
        digests=sorted(digests),
        batches=sorted({each.batch for each in records}),
        images=sorted(images),
        pins=_followers(ids),
        who=getpass.getuser(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why,
    )


@dataclass(frozen=True)
class _Record:
    """A raw record whose text is still there."""

    batch: str
    digest: str
    row_id: str
    record: str | None


def _records(row_ids: set[str]) -> set[_Record]:
    """The records that became these rows, and the same records elsewhere, which may have become others; till there are no more."""
    found: set[_Record] = set()
    wanted, digests = row_ids, set[str]()
    while wanted:
        places: dict[str, set[int]] = {}
        for by_batch in places_of(wanted).values():
            for name, indices in by_batch.items():
                places.setdefault(name, set()).update(indices)
        new = {each for batch in read_manifest() for each in _read(batch, places.get(batch.batch, set()), digests)}
        fresh = {each.digest for each in new} - digests
        if fresh:  # look for the same records in every batch
            digests |= fresh
            new |= {each for batch in read_manifest() for each in _read(batch, set(), fresh)}
        wanted = {each.row_id for each in new} - row_ids - {each.row_id for each in found}
        found |= new
    return found


def _read(batch: Batch, places: set[int], digests: set[str]) -> list[_Record]:
    if not places and not digests:
        return []
    with pq.ParquetFile(batch.path) as file:
        known = file.read(columns=["digest"])["digest"]
        same = pc.is_in(known, pa.array(sorted(digests), pa.string())).to_numpy()
        chosen = sorted(places | set(np.flatnonzero(same).tolist()))
        if not chosen:
            return []
        raw = fill_up(file.read().take(pa.array(chosen, pa.int64())))
    rows = to_rows(raw, batch, chosen)["row_id"].to_pylist()
    columns = [raw[name].to_pylist() for name in ("digest", "record", "raw")]
    return [
        _Record(batch.batch, digest, row_id, record)
        for row_id, digest, record, came in zip(rows, *columns, strict=True)
        if record is not None or came is not None
    ]


def made_from(row_ids: Collection[str]) -> list[str]:
    """Ids of the rows that were made (`strop data build`) from these rows, or from such as were."""
    wanted = set(row_ids)
    found: set[str] = set()
    parents = _parents()
    while more := {child for child, of in parents.items() if of & wanted} - found - set(row_ids):
        found |= more
        wanted = more
    return sorted(found)


def save_plan(plan: Plan) -> None:
    write_json(paths.ERASING, asdict(plan))


def saved_plan() -> Plan | None:
    """The plan of an erasure that did not come to its end."""
    if not paths.ERASING.exists():
        return None
    try:
        said = read_json(paths.ERASING)
        pairs = {"pins": [tuple(pin) for pin in said["pins"]], "held": tuple(tuple(each) for each in said["held"])}
        return Plan(**said | pairs)
    except (ValueError, KeyError, TypeError) as error:
        fix = "Remove it, then erase those rows again: strop rows forget --erase"
        raise DataError(f"no plan of an erasure ({damage_reason(error)})", where=str(paths.ERASING), fix=fix) from error


def _followers(ids: list[str]) -> list[tuple[str, str]]:
    gone = pa.array(ids, pa.string())
    found: list[tuple[str, str]] = []
    for _, part in read_parts():
        follows = pc.and_(pc.is_in(part["group"], gone), pc.invert(pc.is_in(part["row_id"], gone)))
        rows = part.filter(follows)
        found += zip(rows["row_id"].to_pylist(), rows["split"].to_pylist(), strict=True)
    return sorted(set(found))


def _parents() -> dict[str, set[str]]:
    """Made row → the rows that it was made from."""
    found: dict[str, set[str]] = {}
    for batch in read_manifest():
        raw = read_raw_file(batch.path)
        made = raw.filter(pc.fill_null(pc.match_substring(raw["record"], '"parents":['), False))
        for row in to_rows(made, batch).select(["row_id", "parents"]).to_pylist():
            found.setdefault(row["row_id"], set()).update(json.loads(row["parents"]))
    return found


def _images_of(record: str | None) -> set[str]:
    """sha256 of the images that a raw record names."""
    if record is None or '"sha256":"' not in record:
        return set()
    found: set[str] = set()

    def visit(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("sha256"), str):
                found.add(value["sha256"])
            for each in value.values():
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    visit(json.loads(record))
    return found


def _images_elsewhere(batches: list[Batch], digests: set[str], images: set[str]) -> set[str]:
    """Those of the images that a record names which stays."""
    if not images:
        return set()
    found: set[str] = set()
    for batch in batches:
        with pq.ParquetFile(batch.path) as file:
            raw = file.read(columns=["digest", "record"])
        for digest, record in zip(raw["digest"].to_pylist(), raw["record"].to_pylist(), strict=True):
            if digest not in digests:
                found |= _images_of(record) & images
    return found
