"""The check `better`: the candidate is shown to be better, over the families that count."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.gate.check import Check, GateInput
from tasks.gate.comparisons import mean_difference
from tasks.scoring.superiority import PairedFamily, detectable_gain, rows_for_superiority, superiority_test

SHOWN_FAMILIES = 4


def check_better(gate: GateInput) -> Iterator[Check]:
    """A one-sided paired test over all families (tasks/scoring/superiority.py), in which no scores of unlike metrics are averaged.

    Every look at the same test rows is another chance of a false positive, so the k-th look spends alpha / (k (k + 1)), and
    fresh test rows buy looks back (tasks/state/alpha_spending.py).
    """
    scores, settings, level = gate.counted, gate.settings, gate.better_level
    if not len(scores):
        missing = settings.min_rows - max((len(gate.scores.of({name})) for name in gate.families), default=0)
        detail = f"no family has the {settings.min_rows} test rows that count: collect more, or lower gate.min_rows"
        yield Check("better", None, False, None, level, None, 0, detail, rows_needed=missing)
        return
    families = paired_families(gate)
    test = superiority_test(
        families,
        least_gain=settings.least_gain,
        level=level,
        samples=settings.bootstrap_samples,
        seed=gate.seed("better"),
    )
    passed = test.p <= level
    needed = None if passed else rows_for_superiority(families, gate.next_level, settings.least_gain)
    interval = gate.difference(scores, "difference") if len(gate.eligible) == 1 else None
    detail = (
        f"{_gains(gate)}{_left_out(gate)}, {int((scores.candidate > scores.reference).sum())} rows gained, "
        f"{int((scores.candidate < scores.reference).sum())} lost; {test.method}, p {test.p:.2g}, "
        f"at most {level:.2g} at look {gate.look} of test epoch {gate.round_.test_epoch}"
    )
    if (gain := detectable_gain(families, level, settings.least_gain)) < 1:
        detail += f"; a gain of {gain:.3f}{' in each family' * (len(families) > 1)} could be detected"
    if not passed and needed is None:
        detail += f"; no gain{f' of more than {settings.least_gain:.3f}' * (settings.least_gain > 0)} is observed"
    if len(scores) < gate.round_.most_rows:
        detail += f"; the test set has {len(scores)} rows that count, {gate.round_.most_rows} at an earlier verdict"
    yield Check("better", None, passed, test.p, level, interval, len(scores), detail, needed)


def paired_families(gate: GateInput) -> list[PairedFamily]:
    """The scores of each family that counts, with its weight."""
    rows = [(gate.counted.of({family}), gate.policy(family).weight) for family in sorted(gate.eligible)]
    return [PairedFamily(scores.reference, scores.candidate, weight) for scores, weight in rows]


def _left_out(gate: GateInput) -> str:
    others = len(gate.scores) - len(gate.counted)
    return f" (without {others} rows of families with fewer than {gate.settings.min_rows})" if others else ""


def _gains(gate: GateInput) -> str:
    """The gain in each family: those with most rows."""
    families = {family: gate.counted.of({family}) for family in gate.eligible}
    if len(families) == 1:
        (scores,) = families.values()
        interval = gate.difference(scores, "difference")
        return f"{mean_difference(scores):+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    largest = sorted(families, key=lambda family: (-len(families[family]), family))[:SHOWN_FAMILIES]
    shown = ", ".join(f"{family} {mean_difference(families[family]):+.3f}" for family in sorted(largest))
    return shown + (f" and {len(families) - len(largest)} more" if len(families) > len(largest) else "")
