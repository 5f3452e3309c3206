"""Differences of JSON reports: the numbers and texts that changed, without those that are facts about one run, such as times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tasks import paths
from tasks.runtime.plurals import count_of

OF_ONE_RUN: Mapping[str, re.Pattern[str]] = {
    paths.METRICS.as_posix(): re.compile(r"models\.[^.]+\.(latency|cost)\..+"),
}
"""Report → its values that are facts about one run: measured times, and what they cost. The scores of a source or task that a user
named `cost` are none: they are deeper."""
SHOWN = 5


def json_difference(
    recorded: Any, new: Any, ignored: re.Pattern[str] | None = None
) -> tuple[bool, str, dict[str, Any]]:
    """Compares two JSON values.

    Args:
        ignored: the paths that may differ.

    Returns:
        Whether they are the same but for the ignored ones, the difference as text, and as numbers.
    """
    before, after = flatten(recorded), flatten(new)
    names = [name for name in sorted({*before, *after}) if before.get(name, ...) != after.get(name, ...)]
    of_one_run = [name for name in names if ignored and ignored.fullmatch(name)]
    changed = {name: (before.get(name), after.get(name)) for name in names if name not in of_one_run}
    deltas = {name: delta for name, pair in changed.items() if (delta := _delta(*pair)) is not None}
    numbers = {"changed": {name: list(pair) for name, pair in changed.items()}, "ignored": of_one_run}
    if not changed:
        parts = sorted({name.rpartition(".")[0] for name in of_one_run})
        return True, f"equal apart from {', '.join(parts)}" if parts else "the same values in other bytes", numbers
    largest = sorted(deltas, key=lambda name: (-abs(deltas[name]), name))
    shown = [f"{name} {deltas[name]:+.3g}" for name in largest[:SHOWN]]
    shown += [f"{name} {_short(old)} → {_short(new)}" for name, (old, new) in changed.items() if name not in deltas][
        : max(SHOWN - len(shown), 0)
    ]
    more = f" and {len(changed) - len(shown):,} more" if len(changed) > len(shown) else ""
    return False, f"{count_of(len(changed), 'value')}: {', '.join(shown)}{more}", numbers


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Path, such as `models.candidate.overall.score` → its value."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {name: value}
    flat: dict[str, Any] = {}
    for key, entry in items:
        part = f'"{key}"' if "." in str(key) else str(key)  # another name than that of a nested value
        flat |= flatten(entry, f"{name}.{part}" if name else part)
    return flat or {name: value}


def _delta(old: Any, new: Any) -> float | None:
    """The difference of two numbers; None if one of them is none."""
    if isinstance(old, bool) or isinstance(new, bool) or not isinstance(old, int | float):
        return None
    return new - old if isinstance(new, int | float) else None


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 30 else f"{text[:30]}…"
