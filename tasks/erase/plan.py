"""What an erasure takes: the rows, their raw records and images. Kept on the disk until all is done."""

from __future__ import annotations

import getpass
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset import read_parts
from tasks.erasures import read_erasures
from tasks.files import read_json, write_json
from tasks.manifest import Batch, read_manifest
from tasks.places import places_of


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
    has_made: bool
    """Are some of them made rows? What generators answered is then not kept either."""
    pins: list[tuple[str, str]]
    """Row, split: rows that took their side from one of these, and keep it."""
    who: str
    when: str
    why: str


def make_plan(row_ids: Collection[str], why: str) -> Plan:
    """Finds what must go with the rows: all their copies, and what was made from them. What was erased before is left out."""
    known = {row_id for each in read_erasures() for row_id in each.ids}
    made = made_from(row_ids)
    ids = sorted({*row_ids, *made} - known)
    batches = {batch.batch: batch for batch in read_manifest()}
    digests: set[str] = set()
    images: set[str] = set()
    held: set[str] = set()
    for places in places_of(ids).values():
        for name, indices in places.items():
            held.add(name)
            with pq.ParquetFile(batches[name].path) as file:
                raw = file.read(columns=["digest", "record"]).take(pa.array(sorted(indices), pa.int64()))
            digests |= set(raw["digest"].to_pylist())
            images |= {image for record in raw["record"].to_pylist() for image in _images_of(record)}
    images -= _images_elsewhere(list(batches.values()), digests, images)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Plan(
        ids,
        sorted(digests),
        sorted(held),
        sorted(images),
        bool(made),
        _followers(ids),
        getpass.getuser(),
        now,
        why,
    )


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
    said = read_json(paths.ERASING)
    return Plan(**said | {"pins": [(row_id, split) for row_id, split in said["pins"]]})


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
    from tasks.records import read_raw_file, to_rows

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
