"""The value of each rated unit, in the order in which they settle: what the test of a canary reads.

    units = settled_units(ratings, settle_seconds=3600, per_user=5, now=time.time())

No value changes once its unit has settled, however late the next rating comes, so every later look sees the same values first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from tasks.serve.canary.ratings import Rating


@dataclass(frozen=True)
class UnitValue:
    unit: str
    value: float
    in_canary: bool
    settled: float
    """In seconds since 1970."""


def settled_units(ratings: Iterable[Rating], settle_seconds: float, per_user: int, now: float) -> list[UnitValue]:
    """The units whose ratings are settled, the first to settle first.

    A unit settles `settle_seconds` after its first rating. A user counts with the mean of the answers that were rated by then, each
    by the last rating of it, and in the first `per_user` units only; the unit with the mean of its users. Units that nobody rated
    have no value: they count 0 in the test.
    """
    by_unit: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_unit[rating.unit].append(rating)
    ends = {unit: min(rating.when for rating in each) + settle_seconds for unit, each in by_unit.items()}
    counted: Counter[str] = Counter()
    values = []
    for unit in sorted((unit for unit, end in ends.items() if end <= now), key=lambda unit: (ends[unit], unit)):
        users = {
            user: value
            for user, value in _values_of_users(by_unit[unit], ends[unit]).items()
            if not user or counted[user] < per_user
        }
        counted.update(users.keys())
        if users:
            values.append(UnitValue(unit, fmean(users.values()), by_unit[unit][0].in_canary, ends[unit]))
    return values


def _values_of_users(ratings: list[Rating], end: float) -> dict[str, float]:
    """User → the mean of the answers of the unit that he rated by `end`, whatever the order of the ratings."""
    last: dict[tuple[str, str], float] = {}
    for rating in sorted(ratings, key=lambda rating: (rating.when, rating.value)):
        if rating.when <= end:
            last[rating.user, rating.answer] = rating.value
    users: defaultdict[str, list[float]] = defaultdict(list)
    for (user, _), value in sorted(last.items()):
        users[user].append(value)
    return {user: fmean(values) for user, values in users.items()}
