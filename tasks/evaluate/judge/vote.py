"""May the judge decide? Only where it agrees with people, and its model is of another family than the candidate's base. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.base.settings import SCRATCH
from tasks.evaluate.judge.model_families import model_families
from tasks.evaluate.judge.preferences import Agreement
from tasks.evaluate.judge.settings import JudgeSettings


def objection(
    settings: JudgeSettings,
    judge: str,
    base: str,
    rubric: str,
    agreements: Mapping[str, Agreement],
    problem: str | None,
) -> str | None:
    """Why the judge may not decide by a rubric; None if it may.

    Args:
        judge: the name that tells the family of the judge's model.
        base: the id of the candidate's base model.
        agreements: rubric → agreement with people.
        problem: why the preferences were not judged.
    """
    if problem is not None:
        return problem
    agreement = agreements.get(rubric)
    if agreement is None:
        return f"{settings.preferences} has no preference for the rubric `{rubric}`"
    if agreement.interval.low < settings.least_kappa:
        low, high = agreement.interval
        return (
            f"its kappa with people is {agreement.kappa:.2f} [{low:.2f}, {high:.2f}] on {agreement.rows} preferences, and the "
            f"lower end must reach {settings.least_kappa:g}"
        )
    return None if settings.allow_same_family else family_objection(judge, base)


def family_objection(model: str, base: str) -> str | None:
    """Why the judge's model is too close to the base; None if it is of another family. A base from scratch has none."""
    if base == SCRATCH:
        return None
    judge, candidate = model_families(model), model_families(base)
    allow = "or set evaluate.judge.allow_same_family"
    for role, name, families in (("judge", model, judge), ("base", base, candidate)):
        if not families:
            return f"the name of the {role}, `{name}`, does not tell its family: use a name that does, {allow}"
    if common := sorted(judge & candidate):
        return f"judge and base are of the family {' and '.join(common)}: choose another judge, {allow}"
    return None
