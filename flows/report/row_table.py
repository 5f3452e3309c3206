"""What became of the rows, from those that came in to those that were trained on: one table, whose lines add up. Pure."""

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
    """Batches over the bound: batch, source, rows, refused_share, top_reasons."""
    excluded: int = 0
    """Rows of batches that a person excluded."""
    dropped: Counts = field(default_factory=dict)
    """Reason code → rows that `curate` dropped, duplicates among them."""
    duplicates: int = 0
    """Of these."""
    not_in_dataset: int = 0
    """Rows of benchmarks, with which others are compared, and forgotten rows."""
    splits: Counts = field(default_factory=dict)
    """Split → rows of the dataset; empty where `curate` has not seen these rows yet."""
    left_out: Counts = field(default_factory=dict)
    """Reason code → rows of the dataset of which `render` made no example: too long, over a cap, ..."""
    used: Counts = field(default_factory=dict)
    """Split → rows that are trained on, or tested; empty where `render` has not seen this dataset yet."""


@dataclass(frozen=True)
class Line:
    count: int
    name: str
    detail: str = ""
    is_sum: bool = False
    """It is what is left of the lines above it."""


def read_data(validated: Any, curated: Any, rendered: Any) -> Data | None:
    """From the reports of the three stages; one that is about other rows than the one before it says nothing."""
    if validated is None:
        return None
    known = {
        "rows": validated["rows"],
        "accepted": validated["accepted"],
        "refused": _most_first(validated["reasons"]),
        "released": validated.get("released", 0),
        "set_aside": validated["set_aside"],
        "excluded": validated["rows"] - validated["accepted"] - validated["refused"],
    }
    if curated is None or curated["rows"] != validated["accepted"]:
        return Data(**known)
    splits = {side: curated["splits"][side] for side in SPLITS}
    dropped = dict(curated["dropped"])
    later = curated.get("taken_out_later", 0)  # a later batch was tested on them, or answers them anew
    if isinstance(later, int):  # an older Strop's report
        later = {"contaminated": later}
    for reason, count in later.items():
        dropped[reason] = dropped.get(reason, 0) + count
    rest = curated["rows"] - sum(dropped.values()) - sum(splits.values())
    known["duplicates"] = sum(count for reason, count in dropped.items() if "duplicate" in reason)
    known |= {"dropped": _most_first(dropped), "not_in_dataset": rest, "splits": splits}
    if rendered is None or rendered.get("rows") != splits:
        return Data(**known)
    without: Counts = {}
    for reasons in rendered["without_example"].values():
        for reason, count in reasons.items():
            without[reason] = without.get(reason, 0) + count
    used = {side: splits[side] - sum(rendered["without_example"].get(side, {}).values()) for side in SPLITS}
    return Data(**known, left_out=_most_first(without), used=used)


def lines_of(data: Data) -> list[Line]:
    """The table, top down."""
    others = {reason: count for reason, count in data.dropped.items() if "duplicate" not in reason}
    lines = [Line(data.rows, "in", is_sum=True)]
    lines += [Line(data.excluded, "excluded", "batches that a person left out")] if data.excluded else []
    lines += [Line(sum(data.refused.values()), "refused", counted(data.refused))]
    if not data.splits:
        return lines
    lines += [Line(data.duplicates, "duplicates", "dropped")]
    lines += [Line(sum(others.values()), "dropped", counted(others))] if others else []
    if data.not_in_dataset:
        lines += [Line(data.not_in_dataset, "not in the dataset", "benchmark rows, forgotten rows")]
    lines += [Line(sum(data.splits.values()), "kept", counted(data.splits), is_sum=True)]
    if data.used:
        lines += [Line(sum(data.left_out.values()), "left out", counted(data.left_out))] if data.left_out else []
        lines += [Line(sum(data.used.values()), "used", counted(data.used), is_sum=True)]
    return lines


def counted(counts: Counts) -> str:
    """`empty_output 8 · encoding_damage 4`"""
    return " · ".join(f"{name} {count:,}" for name, count in counts.items())


def _most_first(counts: Counts) -> Counts:
    return dict(sorted(((r, c) for r, c in counts.items() if c), key=lambda item: (-item[1], item[0])))
