"""The checks of the gate: each compares the paired scores with a bound of the settings. Pure.

A check is one entry of CHECKS, here or added by a plugin (docs/extend.md). All checks that count must pass (policy.py), so that a
plugin's check can only make a promotion less likely.

- `floor`, `floor/<family>`: the candidate's own score is high enough.
- `not_worse/<family>`: the lower bound of the paired interval of (candidate - reference) is above minus the margin.
  Every family must pass, so that more families make a promotion less likely, never more likely.
- `no_regression/<family>`: on the test rows that existed when the champion was trained, the candidate is not shown to be
  worse. A new batch brings test rows of its own: a batch with wrong labels would favour the model that was trained on them.
  The earlier rows are fewer, so this check needs evidence of harm, not proof of harmlessness.
- `better`: on all rows of the families that count, by a one-sided paired test. Every look at the same test rows is another
  chance of a false positive, so the k-th look spends alpha / (k (k + 1)): over a whole test epoch these sum to alpha.

A family with fewer than `min_rows` rows is reported; it can neither pass nor block, and is left out of `better` and of
the overall floor.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tasks.gate.pairing import PairedScores
from tasks.gate.settings import FamilyPolicy, GateSettings
from tasks.runtime.plugin_table import PluginTable
from tasks.scoring import statistics
from tasks.scoring.statistics import Interval, Scores
from tasks.state.round import Round


@dataclass(frozen=True)
class Check:
    """The result of a check, on all families or on one."""

    name: str
    """The name in CHECKS; for one family: `<name>/<family>`."""
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


@dataclass(frozen=True)
class GateInput:
    """What the checks compare."""

    scores: PairedScores
    settings: GateSettings
    round_: Round

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
        """The number of this verdict among those on the test epoch's rows, from 1."""
        return self.round_.looks + 1

    @property
    def level(self) -> float:
        """The share of alpha that this look spends."""
        return level_of_look(self.settings.alpha, self.look)

    def margin(self, family: str) -> float:
        policy = self.settings.families.get(family, FamilyPolicy())
        return self.settings.margin if policy.margin is None else policy.margin


def level_of_look(alpha: float, look: int) -> float:
    """The share of alpha for the `look`-th verdict (from 1) on the same test rows."""
    return alpha / (look * (look + 1))


def check_floor(gate: GateInput) -> Iterator[Check]:
    others = len(gate.scores) - len(gate.counted)
    too_few = f"without {others} of families with fewer than {gate.settings.min_rows}"
    among = f" on {len(gate.counted)} rows, {too_few}" if others else ""
    yield _floor(None, gate.counted, gate.settings.floor, gate.settings, bool(gate.eligible), among)
    for family in gate.families:
        policy = gate.settings.families.get(family, FamilyPolicy())
        if policy.floor is not None:
            yield _floor(family, gate.scores.of({family}), policy.floor, gate.settings, family in gate.eligible)


def check_not_worse(gate: GateInput) -> Iterator[Check]:
    for family in gate.families:
        yield _not_worse(family, gate.scores.of({family}), gate.margin(family), gate.settings)


def check_no_regression(gate: GateInput) -> Iterator[Check]:
    batches = gate.round_.champion.batches if gate.round_.champion else ()
    for family in gate.families:
        rows = gate.scores.of({family})
        established = rows.of_batches(batches)
        if 0 < len(established) < len(rows):
            yield _no_regression(family, established, gate.margin(family), gate.settings)


def check_better(gate: GateInput) -> Iterator[Check]:
    scores, settings, level = gate.counted, gate.settings, gate.level
    if not len(scores):
        detail = f"no family has the {settings.min_rows} test rows that count: collect more, or lower gate.min_rows"
        yield Check("better", None, False, None, level, None, 0, detail)
        return
    test = statistics.superiority_test(
        scores.reference,
        scores.candidate,
        level=level,
        samples=settings.bootstrap_samples,
        seed=_seed(settings, "better"),
    )
    interval = _difference(scores, settings, "difference")
    gained, lost = int((scores.candidate > scores.reference).sum()), int((scores.candidate < scores.reference).sum())
    detail = (
        f"{_mean_difference(scores):+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], "
        f"{gained} rows gained, {lost} lost; {test.method}, p {test.p:.2g}, "
        f"at most {level:.2g} at look {gate.look} of test epoch {gate.round_.test_epoch}"
    )
    yield Check("better", None, test.p <= level, test.p, level, interval, len(scores), detail)


def _floor(
    family: str | None, scores: PairedScores, bound: float, settings: GateSettings, counts: bool, among: str = ""
) -> Check:
    name = f"floor/{family}" if family else "floor"
    if not len(scores):
        return Check(name, family, None, None, bound, None, 0, _too_few(0, settings))
    score = float(scores.candidate.mean())
    interval = statistics.score_interval(
        scores.candidate,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=_seed(settings, name),
    )
    detail = f"the candidate scores {score:.3f}{among}, the floor is {bound:.3f}"
    passed = score >= bound if counts else None
    return Check(
        name,
        family,
        passed,
        score,
        bound,
        interval,
        len(scores),
        _with_row_count(detail, counts, len(scores), settings),
    )


def _not_worse(family: str, scores: PairedScores, margin: float, settings: GateSettings) -> Check:
    name, counts = f"not_worse/{family}", len(scores) >= settings.min_rows
    if not len(scores):
        return Check(name, family, None, None, 0.0 - margin, None, 0, _too_few(0, settings))
    interval = _difference(scores, settings, name)
    difference = _mean_difference(scores)
    passed = interval.low > -margin
    if passed:
        detail = f"not worse by more than {margin:.3f}"
    elif interval.high < -margin:
        detail = f"worse: the whole interval lies below {-margin:.3f}"
    else:
        detail = f"not shown: the interval reaches below {-margin:.3f}; more test rows make it narrower"
    detail = f"{difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], {detail}"
    detail = _with_row_count(detail, counts, len(scores), settings)
    return Check(name, family, passed if counts else None, difference, 0.0 - margin, interval, len(scores), detail)


def _no_regression(family: str, scores: PairedScores, margin: float, settings: GateSettings) -> Check:
    """Blocks where harm is shown (the whole interval below 0) and is not shown to stay within the margin."""
    name, counts = f"no_regression/{family}", len(scores) >= settings.min_rows
    interval = _difference(scores, settings, name)
    difference = _mean_difference(scores)
    passed = interval.high >= 0 or interval.low > -margin
    if passed:
        detail = "not shown to be worse"
    elif interval.high < -margin:
        detail = f"worse: the whole interval lies below {-margin:.3f}"
    else:
        detail = "worse: the whole interval lies below 0"
    detail = f"{difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] on the {len(scores)} rows there before, {detail}"
    detail = _with_row_count(detail, counts, len(scores), settings)
    return Check(name, family, passed if counts else None, difference, 0.0 - margin, interval, len(scores), detail)


def _difference(scores: PairedScores, settings: GateSettings, name: str) -> Interval:
    return statistics.difference_interval(
        scores.reference,
        scores.candidate,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=_seed(settings, name),
    )


def _mean_difference(scores: PairedScores) -> float:
    difference: Scores = scores.candidate - scores.reference
    return float(np.mean(difference))


def _with_row_count(detail: str, counts: bool, rows: int, settings: GateSettings) -> str:
    return detail if counts else f"{detail} ({_too_few(rows, settings)})"


def _too_few(rows: int, settings: GateSettings) -> str:
    return f"{rows} test rows, {settings.min_rows} are needed to count"


def _seed(settings: GateSettings, name: str) -> list[int]:
    """A random stream per check, so that a new family does not change the numbers of the others."""
    return [settings.seed, zlib.crc32(name.encode("utf-8"))]


CheckFunction = Callable[[GateInput], Iterable[Check]]

CHECKS: PluginTable[CheckFunction] = PluginTable(
    "gate check",
    {
        "floor": check_floor,
        "not_worse": check_not_worse,
        "no_regression": check_no_regression,
        "better": check_better,
    },
    stages=("gate",),
)
"""Name → the function that yields its results: one for all families, or one for each."""
OWN_CHECKS = frozenset(CHECKS)
"""The names of Strop's checks; the others are plugins'."""
