"""The policy: a candidate passes if it is shown to be better and no check that counts failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tasks.errors import ConfigError
from tasks.gate.checks import CHECKS, OWN_CHECKS, Check, GateInput
from tasks.gate.pairing import PairedScores
from tasks.gate.settings import GateSettings
from tasks.state.round import Round


@dataclass(frozen=True)
class Verdict:
    passed: bool
    look: int
    """The number of this verdict among those on the test epoch's rows, from 1."""
    alpha_spent: float
    """The level of `better` at this look."""
    checks: list[Check]


def decide(scores: PairedScores, settings: GateSettings, round_: Round) -> Verdict:
    """Runs every check: first those of all families, then those by family, `better` last.

    Raises:
        ConfigError: a plugin's check failed, or returned a result that is not its own.
    """
    gate = GateInput(scores, settings, round_)
    own = [check for name in CHECKS if name in OWN_CHECKS for check in CHECKS[name](gate)]
    added = [check for name in CHECKS if name not in OWN_CHECKS for check in _run_added(name, gate)]
    checks = sorted([*own, *added], key=lambda check: (check.name == "better", check.family or ""))
    better = next(check for check in own if check.name == "better")
    passed = better.passed is True and all(check.passed is not False for check in checks)
    return Verdict(passed, gate.look, gate.level, checks)


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
        # numpy's bool is not the singleton that `passed is False` compares with
        yield replace(check, passed=None if check.passed is None else bool(check.passed), rows=int(check.rows))
