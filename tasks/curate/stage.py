"""Room `curate`: accepted rows → data/curated, one immutable part a batch, and what was dropped, with reasons.

A part follows from its batch, the settings and the parts before it. It is kept by that content in .strop/cache/curate, so
that a new batch costs what the new batch costs. Run: `python -m tasks curate`
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tasks import paths
from tasks.curate.part import Part, curate_part
from tasks.errors import DataError
from tasks.files import content_digest, file_digest, link_or_copy, read_json, write_json, write_parquet
from tasks.progress import track
from tasks.row import ROW_SCHEMA

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.curate.settings import CurateSettings

CACHE = paths.CACHE / "cache" / "curate"
NAMES = ("kept.parquet", "dropped.parquet", "keys.parquet", "counts.json")


def run(config: PipelineConfig) -> None:
    """Writes data/curated, data/quarantine/curate and data/reports/curate.json.

    Raises:
        DataError: no row is left, or none on a side that the later rooms need.
    """
    quarantine = paths.QUARANTINE / "curate"
    for folder in (paths.CURATED, quarantine):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    parts = sorted(paths.VALIDATED.glob("*.parquet"))
    entries = _curate_all(parts, config.curate)
    for part, entry in zip(parts, entries, strict=True):
        for name, folder in (("kept.parquet", paths.CURATED), ("dropped.parquet", quarantine)):
            if pq.read_metadata(entry / name).num_rows:
                link_or_copy(entry / name, folder / part.name)
    report = _report(parts, entries)
    write_json(paths.CURATE_REPORT, report)
    _require_all_sides(report)


def _curate_all(parts: list[Path], settings: CurateSettings) -> list[Path]:
    """The cache entry of each part, made where it is not there yet."""
    state = content_digest([settings.model_dump(), _code_digest()])
    leaders: dict[bytes, str] | None = {}
    entries: list[Path] = []
    with track("curate", total=len(parts), unit="batches") as progress:
        for part in parts:
            state = content_digest([state, part.name, file_digest(part)])
            entry = CACHE / state[:32]
            if all((entry / name).is_file() for name in NAMES):
                leaders = None  # read again only if a later part must be made
            else:
                if leaders is None:
                    leaders = _leaders(entries)
                _write_entry(entry, curate_part(pq.read_table(part, schema=ROW_SCHEMA), leaders, settings))
            entries.append(entry)
            progress.advance(1)
    return entries


def _code_digest() -> str:
    """Digest of this room's code: a part made by other code is made again."""
    here = Path(__file__).parent
    return content_digest([[p.name, file_digest(p)] for p in [*sorted(here.glob("*.py")), here.parent / "text.py"]])


def _leaders(entries: list[Path]) -> dict[bytes, str]:
    """Content key → row id of every row kept by `entries`."""
    leaders: dict[bytes, str] = {}
    for entry in entries:
        keys = pq.read_table(entry / "keys.parquet")
        leaders.update(zip(keys["key"].to_pylist(), keys["row_id"].to_pylist(), strict=True))
    return leaders


def _write_entry(entry: Path, part: Part) -> None:
    entry.mkdir(parents=True, exist_ok=True)
    write_parquet(entry / "kept.parquet", part.kept)
    write_parquet(entry / "dropped.parquet", part.dropped)
    write_parquet(entry / "keys.parquet", part.keys)
    sides = part.kept.group_by(["family", "split"]).aggregate([([], "count_all")]).to_pylist()
    counted = sorted([row["family"], row["split"], row["count_all"]] for row in sides)
    write_json(entry / "counts.json", {**part.counts, "sides": counted})  # last: it completes the entry


def _report(parts: list[Path], entries: list[Path]) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    cleaned: Counter[str] = Counter()
    families: dict[str, Counter[str]] = {}
    batches = []
    for part, entry in zip(parts, entries, strict=True):
        counts = read_json(entry / "counts.json")
        dropped.update(counts["dropped"])
        cleaned.update(counts["cleaned"])
        kept = 0
        for family, side, count in counts["sides"]:
            families.setdefault(family, Counter())[side] += count
            kept += count
        batches.append(
            {"batch": part.stem.split("-")[-1], "rows": counts["rows"], "kept": kept, "dropped": counts["dropped"]}
        )
    splits = sum(families.values(), Counter())
    return {
        "rows": sum(batch["rows"] for batch in batches),
        "kept": sum(splits.values()),
        "dropped": dict(dropped),
        "cleaned": dict(cleaned),
        "splits": {side: splits[side] for side in ("train", "valid", "test")},
        "families": {
            family: {side: count[side] for side in ("train", "valid", "test")} for family, count in families.items()
        },
        "batches": batches,
    }


def _require_all_sides(report: dict[str, Any]) -> None:
    for side, why in (("train", "there is nothing to learn from"), ("test", "no model could be shown to be better")):
        if not report["splits"][side]:
            raise DataError(
                f"none of the {report['kept']} rows left is on the {side} side, so {why}",
                where=str(paths.CURATED),
                fix="Collect more rows, or mend curate.test_share in params.yaml",
            )
