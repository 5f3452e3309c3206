"""Room `curate`: accepted rows → data/curated, one immutable part a batch, and what was dropped, with reasons.

A part follows from its batch, the settings and the batches before it. It is kept by that content in .strop/cache/curate, so
that a new batch costs what the new batch costs. Run: `python -m tasks curate`
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tasks import paths
from tasks.curate.cache import forget_unused
from tasks.curate.curator import Curator, Entry
from tasks.errors import DataError
from tasks.records.raw_bytes import require_unchanged
from tasks.runtime.files import link_or_copy, read_json, write_json
from tasks.runtime.progress import track
from tasks.state.decisions import read_decisions
from tasks.state.manifest import read_manifest

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def run(config: PipelineConfig) -> None:
    """Writes data/curated, data/quarantine/curate and data/reports/curate.json.

    Raises:
        DataError: no row is left, or none on a side that the later rooms need.
    """
    quarantine = paths.QUARANTINE / "curate"
    batches = read_manifest()
    require_unchanged(batches)
    for folder in (paths.CURATED, quarantine):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    curator = Curator(config.curate, read_decisions())
    entries = []
    with track("curate", total=sum(batch.rows for batch in batches), unit="rows") as progress:
        for batch in batches:
            entries.append(curator.curate(batch, progress))
    for entry in entries:
        _hand_out(entry, quarantine)
    forget_unused(curator.used)
    report = _report(entries)
    write_json(paths.CURATE_REPORT, report)
    _require_all_sides(report)


def _hand_out(entry: Entry, quarantine: Path) -> None:
    """Links the part into the outputs; a file that would be empty is left out."""
    changes = f"{Path(entry.batch.part).stem}.changes.parquet"
    places = (
        ("kept.parquet", paths.CURATED / entry.batch.part),
        ("changes.parquet", paths.CURATED / changes),
        ("dropped.parquet", quarantine / entry.batch.part),
    )
    for name, place in places:
        if pq.read_metadata(entry.folder / name).num_rows:
            link_or_copy(entry.folder / name, place)


def _report(entries: list[Entry]) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    cleaned: Counter[str] = Counter()
    removed: dict[str, Counter[str]] = defaultdict(Counter)
    families: dict[str, Counter[str]] = {}
    batches = []
    taken_out: Counter[str] = Counter()
    grouped = 0
    for entry in entries:
        counts = read_json(entry.folder / "counts.json")
        if entry.is_excluded:
            continue
        dropped.update(counts["dropped"])
        grouped += counts["grouped"]
        for name, count in counts["cleaned"].items():
            reason, _, piece = name.partition(" ")
            (removed[reason] if piece else cleaned)[piece or reason] += count
        kept = 0
        for family, side, count in counts["sides"]:
            families.setdefault(family, Counter())[side] += count
            kept += count
        for family, side, reason, count in counts["taken_out"]:
            families[family][side] -= count
            taken_out[reason] += count
        batches.append({"batch": entry.batch.batch, "rows": counts["rows"], "kept": kept, "dropped": counts["dropped"]})
    splits = sum(families.values(), Counter())
    return {
        "rows": sum(batch["rows"] for batch in batches),
        "kept": sum(splits.values()),
        "dropped": dict(dropped),
        "grouped": grouped,
        "taken_out_later": dict(sorted(taken_out.items())),
        "cleaned": dict(cleaned),
        "removed": {reason: dict(pieces.most_common()) for reason, pieces in sorted(removed.items())},
        "splits": {side: splits[side] for side in ("train", "valid", "test")},
        "families": {
            family: {side: count[side] for side in ("train", "valid", "test")} for family, count in families.items()
        },
        "batches": batches,
    }


def _require_all_sides(report: dict[str, Any]) -> None:
    fix = "Collect more rows, or change curate.test_share in params.yaml"
    if grouped := report["grouped"]:
        fix += f". {grouped} of them stand where an earlier row does that is near them or that they share text with"
    for side, why in (("train", "there is nothing to learn from"), ("test", "no model could be shown to be better")):
        if not report["splits"][side]:
            raise DataError(
                f"none of the {report['kept']} rows left is on the {side} side, so {why}",
                where=str(paths.CURATED),
                fix=fix,
            )
