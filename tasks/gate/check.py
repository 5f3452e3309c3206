"""A check's result and its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tasks.gate.pairing import PairedScores
from tasks.gate.settings import FamilyPolicy, GateSettings, Tier
from tasks.scoring import statistics
from tasks.scoring.non_inferiority import stream_seed
from tasks.scoring.statistics import Interval
from tasks.state.alpha_spending import next_share, restored
from tasks.state.round import Round


@dataclass(frozen=True)
class Check:
    """The result of a check, on all families or on one."""

    name: str
    """The name in CHECKS; for one family: `<name>/<family>`; for a slice: `<name>/<family>/<column>=<value>`."""
    family: str | None
    passed: bool | None
    """None: too few rows, so the check can neither pass nor block."""
    number: float | None
    """The measured value: a score (floor), a difference (not_worse), a p-value (better)."""
    bound: float
    """The limit for the number; not_worse compares the lower end of its interval with it."""
    interval: Interval | None
    rows: int
    detail: str
    rows_needed: int | None = None
    """Of a check that did not pass: how many further rows would decide it. None: more rows would not help."""
    tier: Tier = "critical"
    """Set by the policy."""
    is_open: bool = False
    """It did not pass, and more rows of its own, which may be others than test rows, would decide it."""
    where: str | None = None
    """The condition on its rows, for `strop compare --slice`; None: all rows of the family."""


@dataclass(frozen=True)
class GateInput:
    """What the checks compare."""

    scores: PairedScores
    settings: GateSettings
    round_: Round
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The content of metrics.json."""

    @property
    def reference(self) -> str:
        """The model that the candidate is compared with: `champion`, or `base` without one."""
        return "champion" if self.round_.champion else "base"

    @cached_property
    def families(self) -> list[str]:
        """The families of the test rows and of the settings, sorted."""
        return sorted(set(self.scores.family.tolist()) | set(self.settings.families))

    @cached_property
    def eligible(self) -> set[str]:
        """The families with enough rows to count."""
        return {name for name in self.families if int((self.scores.family == name).sum()) >= self.settings.min_rows}

    @cached_property
    def counted(self) -> PairedScores:
        """The rows of the families that count."""
        return self.scores.of(self.eligible)

    @property
    def look(self) -> int:
        """The number of this verdict in the test epoch, from 1."""
        return self.round_.looks + 1

    @property
    def spent(self) -> float:
        """The share of alpha that earlier verdicts have spent and fresh test rows have not restored. Rows of families that do not
        count restore nothing: `better` does not look at them."""
        return restored(self.round_.alpha_spent, len(self.counted), self.round_.most_rows)

    @property
    def level(self) -> float:
        """The part of alpha that this verdict spends, with its canary."""
        return self.settings.alpha * next_share(self.spent)

    @property
    def better_level(self) -> float:
        """The level of `better`."""
        return (1 - self.settings.canary_share) * self.level

    @property
    def canary_level(self) -> float:
        """The level at which ratings of a canary may show that the candidate is better."""
        return self.settings.canary_share * self.level

    @property
    def next_level(self) -> float:
        """The level of `better` that the next verdict would have, without fresh rows."""
        return (1 - self.settings.canary_share) * self.settings.alpha * next_share(self.spent + next_share(self.spent))

    def policy(self, family: str) -> FamilyPolicy:
        return self.settings.families.get(family, FamilyPolicy())

    def margin(self, family: str) -> float:
        margin = self.policy(family).margin
        return self.settings.margin if margin is None else margin

    def seed(self, name: str) -> list[int]:
        """A random stream per check."""
        return stream_seed(self.settings.seed, name)

    def difference(self, scores: PairedScores, name: str) -> Interval:
        """The paired interval of (candidate - reference)."""
        return statistics.difference_interval(
            scores.reference,
            scores.candidate,
            confidence=self.settings.confidence,
            samples=self.settings.bootstrap_samples,
            seed=self.seed(name),
        )

    def too_few(self, rows: int) -> str:
        return f"{rows} test rows, {self.settings.min_rows} are needed to count"

    def with_row_count(self, detail: str, counts: bool, rows: int) -> str:
        return detail if counts else f"{detail} ({self.too_few(rows)})"
