"""What the population's requests show: for each version how many it answered and how well, and the same minute by minute. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.demo.traffic import Exchange


@dataclass(frozen=True)
class Counts:
    """Of answers by one version, about sections of one kind."""

    answers: int
    right: int

    @property
    def share(self) -> float | None:
        return self.right / self.answers if self.answers else None


@dataclass(frozen=True)
class VersionCounts:
    version: int
    """0: requests without an answer."""
    first: float
    """Seconds since the first request."""
    last: float
    learned: Counts
    new: Counts
    corrections: int
    ratings: int

    @property
    def requests(self) -> int:
        return self.learned.answers + self.new.answers


@dataclass(frozen=True)
class Minute:
    minute: int
    version: int
    new: Counts
    """About sections that the first model has not learned."""
    learned: Counts


def by_version(exchanges: Sequence[Exchange], learned: Sequence[str]) -> list[VersionCounts]:
    start = _start(exchanges)
    result = []
    for version in sorted({each.version for each in exchanges}):
        own = [each for each in exchanges if each.version == version]
        result.append(
            VersionCounts(
                version,
                min(each.began for each in own) - start,
                max(each.began + each.seconds for each in own) - start,
                _counts(each for each in own if each.section in learned),
                _counts(each for each in own if each.section not in learned),
                sum(each.feedback == "correction" for each in own),
                sum(each.feedback == "rating" for each in own),
            )
        )
    return result


def by_minute(exchanges: Sequence[Exchange], learned: Sequence[str]) -> list[Minute]:
    """Of the versions that answered in each minute; minutes without a request are left out."""
    start = _start(exchanges)
    groups: dict[tuple[int, int], list[Exchange]] = {}
    for each in exchanges:
        groups.setdefault((int((each.began - start) // 60), each.version), []).append(each)
    return [
        Minute(
            minute,
            version,
            _counts(each for each in own if each.section not in learned),
            _counts(each for each in own if each.section in learned),
        )
        for (minute, version), own in sorted(groups.items())
    ]


def _counts(exchanges: Iterable[Exchange]) -> Counts:
    right = [each.is_right for each in exchanges]
    return Counts(len(right), sum(right))


def _start(exchanges: Sequence[Exchange]) -> float:
    return min((each.began for each in exchanges), default=0.0)
