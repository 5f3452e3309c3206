"""The judge in a round: reads its inputs before the models are loaded, then compares the candidate with the reference.

judging = open_judging(config.evaluate)      # errors of rubrics, preferences and environment, before hours of inference
result = judging.compare(rows_by_role, reference, questions, base)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError
from tasks.evaluate.judge.judge import Cost, Judge, NotJudged
from tasks.evaluate.judge.pair import EQUAL, Pair, PairVerdict
from tasks.evaluate.judge.preferences import Agreement, Preference, measure_agreement, read_preferences
from tasks.evaluate.judge.report import describe_agreement, describe_family
from tasks.evaluate.judge.rows import JUDGE_SCORE, SCORES, compare_rows, decided, is_free_form
from tasks.evaluate.judge.rubric import DEFAULT, Rubric, read_rubrics, rubric_name
from tasks.evaluate.judge.settings import JudgeSettings
from tasks.evaluate.judge.vote import objection
from tasks.evaluate.predictions import Row
from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring.answer_text import normalise_answer

logger = logging.getLogger(__name__)

Rubrics = Mapping[tuple[str, str], Rubric]


@dataclass(frozen=True)
class JudgeInputs:
    rubrics: Rubrics
    preferences: list[Preference] | None
    """None: there is no file."""


@dataclass(frozen=True)
class Judging:
    settings: EvaluateSettings
    judge: Judge
    inputs: JudgeInputs

    def compare(
        self, rows: Mapping[str, list[Row]], reference: str, questions: Mapping[str, str], base: str
    ) -> dict[str, Any]:
        """The entry `judge` of metrics.json. Sets JUDGE_SCORE in the rows of candidate and reference.

        Args:
            rows: role → its predictions.
            reference: the role that the candidate is compared with.
            questions: row id → the last turn of the user.
            base: the id of the base model.
        """
        settings = self.judge.settings
        agreements, agreement_entries, problem = self._agreements()
        families = {}
        for family in sorted(settings.families):
            of_family = {
                role: [row for row in rows[role] if row["family"] == family] for role in ("candidate", reference)
            }
            entry, scores = self._compare_family(family, of_family["candidate"], of_family[reference], questions)
            against = objection(
                settings, self.judge.name, base, rubric_name(self.inputs.rubrics, family), agreements, problem
            )
            may_decide = against is None and "problem" not in entry
            families[family] = entry | {"may_decide": may_decide, "objection": against}
            for row in of_family["candidate"]:
                row[JUDGE_SCORE] = scores.get(row["row_id"])
            for row in of_family[reference]:
                score = scores.get(row["row_id"])
                row[JUDGE_SCORE] = None if score is None else 1 - score
        logger.info(
            f"evaluate: judge {settings.model}: {self.judge.calls} calls, {self.judge.tokens:,} tokens in this run"
        )
        return {
            "model": settings.model,
            "reference": reference,
            "agreement": agreement_entries,
            "families": families,
        }

    def _compare_family(
        self, family: str, candidate: list[Row], reference: list[Row], questions: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """The numbers of a family, and its scores by row id; without a verdict: the problem, and no scores."""
        if not any(map(is_free_form, candidate)):
            return {"rows": len(candidate), "problem": "it has no test rows with free-form answers"}, {}
        rubric = rubric_name(self.inputs.rubrics, family)
        comparisons = compare_rows(candidate, reference, questions, rubric)
        pairs = [each.pair for each in comparisons if each.winner is None]
        try:
            verdicts, cost = self.judge.judge(pairs, family)
        except NotJudged as problem:
            return {"rows": len(candidate), "problem": str(problem)}, {}
        winners = decided(comparisons, verdicts)
        entry = describe_family(comparisons, list(winners.values()), verdicts, cost)
        return entry, {row_id: SCORES[winner] for row_id, winner in winners.items()}

    def _agreements(self) -> tuple[dict[str, Agreement], dict[str, Any], str | None]:
        """(rubric → agreement with people, the same for metrics.json, why there is none)."""
        settings, preferences = self.judge.settings, self.inputs.preferences
        if preferences is None:
            return {}, {}, f"people's preferences are missing ({settings.preferences})"
        groups: dict[str, list[Preference]] = {}
        for preference in preferences:
            groups.setdefault(rubric_name(self.inputs.rubrics, preference.family), []).append(preference)
        agreements, entries = {}, {}
        for rubric, members in sorted(groups.items()):
            try:
                verdicts, cost = self._judge_preferences(rubric, members)
            except NotJudged as problem:
                return {}, {}, f"people's preferences were not judged: {problem}"
            agreements[rubric] = measure_agreement(
                [preference.preferred for preference in members],
                [verdict.winner for verdict in verdicts],
                confidence=self.settings.confidence,
                samples=self.settings.bootstrap_samples,
                seed=self.settings.seed,
            )
            entries[rubric] = describe_agreement(agreements[rubric], verdicts, cost)
        return agreements, entries, None

    def _judge_preferences(self, rubric: str, members: Sequence[Preference]) -> tuple[list[PairVerdict], Cost]:
        pairs = [preference.pair(rubric) for preference in members]
        verdicts, cost = self.judge.judge(
            [pair for pair in pairs if not _is_equal(pair)], f"the preferences of {rubric}"
        )
        remaining = iter(verdicts)
        return [EQUAL if _is_equal(pair) else next(remaining) for pair in pairs], cost


def open_judging(settings: EvaluateSettings) -> Judging | None:
    """The judge with its inputs; None without one.

    Raises:
        ConfigError: a rubric is missing or invalid, or an environment variable is not set.
        DataError: a line of the preferences is invalid.
    """
    if settings.judge is None:
        return None
    inputs = read_inputs(settings.judge)
    return Judging(settings, Judge(settings.judge, inputs.rubrics), inputs)


def read_inputs(settings: JudgeSettings) -> JudgeInputs:
    """Rubrics and preferences. Raises as `open_judging`."""
    preferences = read_preferences(Path(settings.preferences))
    named = {preference.family for preference in preferences or () if preference.family is not None}
    rubrics = read_rubrics(settings.families, also=sorted(named - set(settings.families)))
    if any(rubric_name(rubrics, each.family) == DEFAULT for each in preferences or ()) and not any(
        name == DEFAULT for name, _ in rubrics
    ):
        what = f"has preferences for the rubric `{DEFAULT}`, which does not exist"
        raise ConfigError(what, where=settings.preferences, fix="Write it, or give each preference a `family`")
    return JudgeInputs(rubrics, preferences)


def _is_equal(pair: Pair) -> bool:
    return normalise_answer(pair.answer_a) == normalise_answer(pair.answer_b)
