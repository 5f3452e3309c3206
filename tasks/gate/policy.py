"""The policy: which verdict follows from the checks. Pure.

A candidate passes if it is shown to be better and no critical or supporting check failed. It is refused if a critical check shows
harm, or if there is no gain. Otherwise the verdict is inconclusive: the champion stays, and more test rows may decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from tasks.errors import ConfigError
from tasks.gate.better import paired_families
from tasks.gate.check import Check, GateInput
from tasks.gate.checks import CHECKS, OWN_CHECKS
from tasks.gate.limits import require_known_topics
from tasks.gate.pairing import PairedScores
from tasks.gate.settings import GateSettings, Tier
from tasks.gate.slices import parse_slices
from tasks.scoring.statistics import Interval
from tasks.scoring.superiority import detectable_gain
from tasks.state.round import Round

Outcome = Literal["passed", "refused", "inconclusive"]

TIERS: dict[str, Tier] = {"inference": "supporting"}
"""Tiers of checks that are not `critical` by default."""


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    look: int
    """The number of this verdict in the test epoch, from 1."""
    alpha_spent: float
    """The part of alpha that this look spends: the level of `better`, with that of a canary."""
    detectable_gain: float
    """The gain, equal in all families and in score points, that `better` detects at this level with a probability of 80 %."""
    rows_needed: int | None
    """Of an inconclusive verdict: about how many further test rows would decide it; None if more rows would not."""
    test_rows: int
    """Test rows of the families that count: those that `better` looked at, and that the ledger records."""
    checks: list[Check]
    canary_level: float = 0.0
    """The level at which ratings of a canary may show that the candidate is better."""

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    @property
    def failed(self) -> list[Check]:
        """The checks that stand in the way of a promotion."""
        return [check for check in self.checks if check.passed is False and check.tier != "advisory"]


def decide(
    scores: PairedScores, settings: GateSettings, round_: Round, metrics: Mapping[str, Any] | None = None
) -> Verdict:
    """Runs every check: first those of all families, then those by family, `better` last.

    Args:
        metrics: the content of metrics.json, for `limits` and `inference`.

    Raises:
        ConfigError: a setting is invalid (`require_valid`); a plugin's check failed, or returned a result that is not its own.
    """
    require_valid(settings)
    gate = GateInput(scores, settings, round_, metrics or {})
    own = [check for name in CHECKS if name in OWN_CHECKS for check in CHECKS[name](gate)]
    added = [check for name in CHECKS if name not in OWN_CHECKS for check in _run_added(name, gate)]
    checks = [replace(check, tier=_tier(check.name, settings)) for check in (*own, *added)]
    checks.sort(key=lambda check: (check.name == "better", check.family or ""))
    outcome = _outcome(checks)
    failed = [check for check in checks if check.passed is False and check.tier != "advisory"]
    needed = [check.rows_needed for check in failed]
    return Verdict(
        outcome,
        gate.look,
        gate.level,
        detectable_gain(paired_families(gate), gate.better_level, settings.least_gain),
        max(each for each in needed if each) if outcome == "inconclusive" and all(needed) else None,
        len(gate.counted),
        checks,
        gate.canary_level,
    )


def require_valid(settings: GateSettings) -> None:
    """Raises ConfigError if `gate.tiers` names no check, a condition of `gate.slices` is invalid, or a path of `gate.limits` is
    unknown."""
    parse_slices(settings)
    require_known_topics(settings)
    for name in settings.tiers:
        if name.partition("/")[0] not in CHECKS:
            near = get_close_matches(name, CHECKS, 1)
            fix = f"Did you mean `{near[0]}`?" if near else f"The checks are {', '.join(CHECKS)}"
            raise ConfigError(f"`{name}` is no check", where="gate.tiers", fix=fix)


def _outcome(checks: list[Check]) -> Outcome:
    failed = [check for check in checks if check.passed is False]
    if any(check.tier == "critical" and check.rows_needed is None and not check.is_open for check in failed):
        return "refused"
    is_better = next(check for check in checks if check.name == "better").passed
    return "inconclusive" if not is_better or any(check.tier != "advisory" for check in failed) else "passed"


def _tier(name: str, settings: GateSettings) -> Tier:
    """The tier of the longest name in the settings that the check's name begins with: `slices/qa` is for all slices of `qa`."""
    parts = name.split("/")
    names = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((settings.tiers[each] for each in names if each in settings.tiers), TIERS.get(parts[0], "critical"))


def _run_added(name: str, gate: GateInput) -> Iterator[Check]:
    """The results of a plugin's check, under its own name, so that it can refuse a candidate and never pass one."""
    where = f"gate check `{name}`"
    try:
        checks = list(CHECKS[name](gate))
    except Exception as error:
        what = f"raised {type(error).__name__}: {error}"
        raise ConfigError(what, where=where, fix="Fix the plugin, then run again") from error
    for check in checks:
        if not isinstance(check, Check) or check.name != (name if check.family is None else f"{name}/{check.family}"):
            fix = f"Return results of type Check that are named `{name}` or `{name}/<family>`"
            raise ConfigError(f"returned {check!r}", where=where, fix=fix)
        yield _as_python(check, where)


def _as_python(check: Check, where: str) -> Check:
    """The result with Python's own types: numpy's bool is not the singleton that `passed is False` compares with, and its numbers
    are no JSON. Nor are infinity and NaN."""
    try:
        interval = None if check.interval is None else Interval(*map(float, check.interval))
        number = None if check.number is None else float(check.number)
        bound = float(check.bound)
        numbers = [each for each in (number, bound, *(interval or ())) if each is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"not all of {numbers} are finite")
        return replace(
            check,
            passed=None if check.passed is None else bool(check.passed),
            number=number,
            bound=bound,
            interval=interval,
            rows=int(check.rows),
            rows_needed=None if check.rows_needed is None else int(check.rows_needed),
        )
    except (TypeError, ValueError) as error:
        fix = "Return finite numbers, and None for a number that is not known"
        raise ConfigError(f"returned {check!r} ({error})", where=where, fix=fix) from error
