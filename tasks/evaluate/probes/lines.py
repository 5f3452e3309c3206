"""The numbers of the probes in metrics.json, for logs and reports. Pure."""

from __future__ import annotations

from typing import Any


def families_of(probe: dict[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """The measured entries of a probe in metrics.json: "" for all rows, or each family where all have no common number `key`."""
    of_all = {"": probe} if probe.get(key) is not None else probe.get("families", {})
    return {name: entry for name, entry in of_all.items() if entry.get(key) is not None}


def probe_lines(numbers: dict[str, Any]) -> list[str]:
    """The lines that report the numbers of the candidate; nothing without probes."""
    lines, empty = [], []
    measures = (("robustness", "drop", "drop of the score", "+"), ("bias", "gap", "gap of swapped pairs", ""))
    for topic, key, title, sign in measures:
        parts = []
        for name, probe in numbers.get(topic, {}).items():
            entries = families_of(probe, key).items()
            parts += [f"{f'{name} ({family})' if family else name} {entry[key]:{sign}.3f}" for family, entry in entries]
            empty += [] if probe["rows"] else [name]
        lines += [f"{title}: {' · '.join(parts)}"] if parts else []
    if empty:
        lines.append(f"no test row for the probes {', '.join(empty)}")
    return lines
