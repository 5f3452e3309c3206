"""The plan of an erasure: the rows, their raw records and images. Stored on the disk until it is complete."""

from __future__ import annotations

import getpass
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset.locate_rows import locate_rows
from tasks.dataset.read import read_parts
from tasks.errors import DataError
from tasks.feedback.erase import with_related
from tasks.records.origin import SERVED
from tasks.records.parse import fill_up, read_raw_file, to_rows
from tasks.runtime.files import damage_reason, read_json, write_json
from tasks.state.manifest import Batch, read_manifest


@dataclass(frozen=True)
class Plan:
    ids: list[str]
    """Ids of the rows."""
    digests: list[str]
    """Digests of their raw records."""
    batches: list[str]
    """The raw batches with these records."""
    images: list[str]
    """sha256 of images that no other record references."""
    pins: list[tuple[str, str]]
    """(Row, split) of rows whose split was decided by one of these, and stays."""
    who: str
    when: str
    why: str
    held: tuple[tuple[str, str], ...] = ()
    """Path and md5 of the objects in DVC's cache to remove; empty before the search."""
    responses: tuple[str, ...] = ()
    """Ids of the served responses whose answers the rows correct or rate, and of those that may quote them."""


def make_plan(row_ids: Collection[str], why: str) -> Plan | None:
    """Finds all data to erase with the rows: their copies, equal records in other batches, and rows generated from them.

    Returns:
        None where no text of the rows is left.
    """
    records = _records({*row_ids, *rows_made_from(row_ids)})
    if not records:
        return None
    ids = sorted({record.row_id for record in records} | set(row_ids))
    digests = {record.digest for record in records}
    images = {image for record in records for image in _images_of(record.record)}
    images -= _images_elsewhere(read_manifest(), digests, images)
    responses = {response for record in records for response in _responses_of(record.record)}
    return Plan(
        ids=ids,
        digests=sorted(digests),
        batches=sorted({record.batch for record in records}),
        images=sorted(images),
        pins=_followers(ids),
        who=getpass.getuser(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why,
        responses=tuple(sorted(with_related(paths.SPOOL, responses))),
    )


@dataclass(frozen=True)
class _Record:
    """A raw record that still has text."""

    batch: str
    digest: str
    row_id: str
    record: str | None


def _records(row_ids: set[str]) -> set[_Record]:
    """The records of these rows, and equal records of other rows, repeated until no more are found."""
    records: set[_Record] = set()
    pending, digests = row_ids, set[str]()
    while pending:
        indices_of: dict[str, set[int]] = {}
        for by_batch in locate_rows(pending).values():
            for name, indices in by_batch.items():
                indices_of.setdefault(name, set()).update(indices)
        new = {
            record for batch in read_manifest() for record in _read(batch, indices_of.get(batch.batch, set()), digests)
        }
        fresh = {record.digest for record in new} - digests
        if fresh:  # search for equal records in every batch
            digests |= fresh
            new |= {record for batch in read_manifest() for record in _read(batch, set(), fresh)}
        pending = {record.row_id for record in new} - row_ids - {record.row_id for record in records}
        records |= new
    return records


def _read(batch: Batch, indices: set[int], digests: set[str]) -> list[_Record]:
    if not indices and not digests:
        return []
    with pq.ParquetFile(batch.path) as file:
        column = file.read(columns=["digest"])["digest"]
        is_equal = pc.is_in(column, pa.array(sorted(digests), pa.string())).to_numpy()
        chosen = sorted(indices | set(np.flatnonzero(is_equal).tolist()))
        if not chosen:
            return []
        raw = fill_up(file.read().take(pa.array(chosen, pa.int64())))
    rows = to_rows(raw, batch, chosen)["row_id"].to_pylist()
    columns = [raw[name].to_pylist() for name in ("digest", "record", "raw")]
    return [
        _Record(batch.batch, digest, row_id, record)
        for row_id, digest, record, text in zip(rows, *columns, strict=True)
        if record is not None or text is not None
    ]


def rows_made_from(row_ids: Collection[str]) -> list[str]:
    """Ids of the rows that `strop data build` made from these rows, directly or indirectly."""
    sources = set(row_ids)
    made: set[str] = set()
    parents = _parents()
    while new := {child for child, parents_of in parents.items() if parents_of & sources} - made - set(row_ids):
        made |= new
        sources = new
    return sorted(made)


def save_plan(plan: Plan) -> None:
    write_json(paths.ERASING, asdict(plan))


def saved_plan() -> Plan | None:
    """The plan of an interrupted erasure; None if there is none."""
    if not paths.ERASING.exists():
        return None
    try:
        content = read_json(paths.ERASING)
        pairs = {
            "pins": [tuple(pin) for pin in content["pins"]],
            "held": tuple(tuple(pair) for pair in content["held"]),
            "responses": tuple(content.get("responses", ())),
        }
        return Plan(**content | pairs)
    except (ValueError, KeyError, TypeError) as error:
        fix = "Remove it, then erase those rows again: strop rows forget --erase"
        raise DataError(
            f"not a plan of an erasure ({damage_reason(error)})", where=str(paths.ERASING), fix=fix
        ) from error


def _followers(ids: list[str]) -> list[tuple[str, str]]:
    erased = pa.array(ids, pa.string())
    followers: list[tuple[str, str]] = []
    for _, part in read_parts():
        follows = pc.and_(pc.is_in(part["group"], erased), pc.invert(pc.is_in(part["row_id"], erased)))
        rows = part.filter(follows)
        followers += zip(rows["row_id"].to_pylist(), rows["split"].to_pylist(), strict=True)
    return sorted(set(followers))


def _parents() -> dict[str, set[str]]:
    """Generated row → the rows that it was made from."""
    parents_of: dict[str, set[str]] = {}
    for batch in read_manifest():
        raw = read_raw_file(batch.path)
        generated = raw.filter(pc.fill_null(pc.match_substring(raw["record"], '"parents":['), False))
        for row in to_rows(generated, batch).select(["row_id", "parents"]).to_pylist():
            parents_of.setdefault(row["row_id"], set()).update(json.loads(row["parents"]))
    return parents_of


def _images_of(record: str | None) -> set[str]:
    """sha256 of the images that a raw record references."""
    if record is None or '"sha256":"' not in record:
        return set()
    objects: list[dict[str, Any]] = []
    json.loads(record, object_hook=objects.append)
    return {item["sha256"] for item in objects if isinstance(item.get("sha256"), str)}


def _responses_of(record: str | None) -> set[str]:
    """The served response that a raw record is made of."""
    if record is None or SERVED not in record:
        return set()
    content = json.loads(record)
    origin = content.get(SERVED) if isinstance(content, dict) else None
    response = origin.get("response") if isinstance(origin, dict) else None
    return {response} if isinstance(response, str) else set()


def _images_elsewhere(batches: list[Batch], digests: set[str], images: set[str]) -> set[str]:
    """The images that a remaining record references."""
    if not images:
        return set()
    remaining: set[str] = set()
    for batch in batches:
        with pq.ParquetFile(batch.path) as file:
            raw = file.read(columns=["digest", "record"])
        for digest, record in zip(raw["digest"].to_pylist(), raw["record"].to_pylist(), strict=True):
            if digest not in digests:
                remaining |= _images_of(record) & images
    return remaining
