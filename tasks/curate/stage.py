"""Room `curate`: accepted rows → data/curated, one immutable part per batch, and the dropped rows with reasons.

A part depends on its batch, the settings and the batches before it. It is cached by that content in .strop/cache/curate, so that
the cost of a new batch is its own. Run: `python -m tasks curate`
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tasks import paths
from tasks.curate.curator import Curator, Entry
from tasks.errors import DataError
from tasks.records.raw_bytes import require_unchanged
from tasks.runtime.files import link_or_copy, read_json, write_json
from tasks.runtime.progress import track
from tasks.state.decisions import read_decisions
from tasks.state.manifest import read_manifest

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


SPLITS = ("train", "valid", "test")


def run(config: PipelineConfig) -> None:
    """Writes data/curated, data/quarantine/curate and data/reports/curate.json.

    Raises:
        DataError: no row is left, or none in a split that the later rooms need.
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
        _publish(entry, quarantine)
    curator.remove_unused()
    report = _report(entries)
    write_json(paths.CURATE_REPORT, report)
    _require_all_splits(report)


def _publish(entry: Entry, quarantine: Path) -> None:
    """Links the part into the outputs; an empty file is not linked."""
    changes = f"{Path(entry.batch.part).stem}.changes.parquet"
    links = (
        ("kept.parquet", paths.CURATED / entry.batch.part),
        ("changes.parquet", paths.CURATED / changes),
        ("dropped.parquet", quarantine / entry.batch.part),
    )
    for name, target in links:
        if pq.read_metadata(entry.folder / name).num_rows:
            link_or_copy(entry.folder / name, target)


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
        for family, split, count in counts["sides"]:
            families.setdefault(family, Counter())[split] += count
            kept += count
        for family, split, reason, count in counts["taken_out"]:
            families[family][split] -= count
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
        "splits": {split: splits[split] for split in SPLITS},
        "families": {family: {split: count[split] for split in SPLITS} for family, count in families.items()},
        "batches": batches,
    }


def _require_all_splits(report: dict[str, Any]) -> None:
    fix = "Collect more rows, or change curate.test_share in params.yaml"
    if grouped := report["grouped"]:
        fix += f". {grouped} of them follow the split of an earlier row that they are near or share text with"
    for split, why in (("train", "there is nothing to train on"), ("test", "no model could be shown to be better")):
        if not report["splits"][split]:
            what = f"none of the {report['kept']} rows left is in the {split} split, so {why}"
            raise DataError(what, where=str(paths.CURATED), fix=fix)
