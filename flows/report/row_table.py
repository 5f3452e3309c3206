"""The row counts from ingestion to training: one table, whose lines add up. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Counts = dict[str, int]
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Data:
    rows: int
    accepted: int
    refused: Counts
    """Reason code → rows, most frequent first."""
    released: int
    set_aside: list[dict[str, Any]]
    """Batches over the limit: batch, source, rows, refused_share, top_reasons."""
    excluded: int = 0
    """Rows of batches excluded by the user."""
    dropped: Counts = field(default_factory=dict)
    """Reason code → rows that `curate` dropped, duplicates among them."""
    duplicates: int = 0
    """Duplicates in `dropped`."""
    not_in_dataset: int = 0
    """Benchmark rows (for the overlap check), and forgotten rows."""
    splits: Counts = field(default_factory=dict)
    """Split → rows of the dataset; empty if `curate` has not processed these rows yet."""
    left_out: Counts = field(default_factory=dict)
    """Reason code → rows of the dataset without an example by `render`: too long, over a cap, ..."""
    used: Counts = field(default_factory=dict)
    """Split → rows used for training or tests; empty if `render` has not processed this dataset yet."""


@dataclass(frozen=True)
class Line:
    count: int
    name: str
    detail: str = ""
    is_sum: bool = False
    """It is the rest after the lines above it."""


def read_data(validated: Any, curated: Any, rendered: Any) -> Data | None:
    """Reads the reports of the three stages; a report about other rows than the previous one is ignored."""
    if validated is None:
        return None
    counts_so_far = {
        "rows": validated["rows"],
        "accepted": validated["accepted"],
        "refused": _by_count(validated["reasons"]),
        "released": validated.get("released", 0),
        "set_aside": validated["set_aside"],
        "excluded": validated["rows"] - validated["accepted"] - validated["refused"],
    }
    if curated is None or curated["rows"] != validated["accepted"]:
        return Data(**counts_so_far)
    splits = {split: curated["splits"][split] for split in SPLITS}
    dropped = dict(curated["dropped"])
    later = curated.get("taken_out_later", 0)  # a later batch was tested on them, or answers them anew
    if isinstance(later, int):  # an older Strop's report
        later = {"contaminated": later}
    for reason, count in later.items():
        dropped[reason] = dropped.get(reason, 0) + count
    rest = curated["rows"] - sum(dropped.values()) - sum(splits.values())
    counts_so_far["duplicates"] = sum(count for reason, count in dropped.items() if "duplicate" in reason)
    counts_so_far |= {"dropped": _by_count(dropped), "not_in_dataset": rest, "splits": splits}
    if rendered is None or rendered.get("rows") != splits:
        return Data(**counts_so_far)
    without: Counts = {}
    for reasons in rendered["without_example"].values():
        for reason, count in reasons.items():
            without[reason] = without.get(reason, 0) + count
    used = {split: splits[split] - sum(rendered["without_example"].get(split, {}).values()) for split in SPLITS}
    return Data(**counts_so_far, left_out=_by_count(without), used=used)


def lines_of(data: Data) -> list[Line]:
    """The lines of the table, from top to bottom."""
    others = {reason: count for reason, count in data.dropped.items() if "duplicate" not in reason}
    lines = [Line(data.rows, "in", is_sum=True)]
    lines += [Line(data.excluded, "excluded", "batches excluded by the user")] if data.excluded else []
    lines += [Line(sum(data.refused.values()), "refused", format_counts(data.refused))]
    if not data.splits:
        return lines
    lines += [Line(data.duplicates, "duplicates", "dropped")]
    lines += [Line(sum(others.values()), "dropped", format_counts(others))] if others else []
    if data.not_in_dataset:
        lines += [Line(data.not_in_dataset, "not in the dataset", "benchmark rows, forgotten rows")]
    lines += [Line(sum(data.splits.values()), "kept", format_counts(data.splits), is_sum=True)]
    if data.used:
        lines += [Line(sum(data.left_out.values()), "left out", format_counts(data.left_out))] if data.left_out else []
        lines += [Line(sum(data.used.values()), "used", format_counts(data.used), is_sum=True)]
    return lines


def format_counts(counts: Counts) -> str:
    """`empty_output 8 · encoding_damage 4`"""
    return " · ".join(f"{name} {count:,}" for name, count in counts.items())


def _by_count(counts: Counts) -> Counts:
    return dict(sorted(((r, c) for r, c in counts.items() if c), key=lambda item: (-item[1], item[0])))
