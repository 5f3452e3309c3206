"""The policy: which models pass, which are refused and why, and how often an equal model passes by chance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from support.extendpage import code_of

from tasks.errors import ConfigError
from tasks.gate.checks import CHECKS, Check, GateInput
from tasks.gate.pairing import PairedScores
from tasks.gate.policy import Verdict, decide
from tasks.gate.settings import FamilyPolicy, GateSettings
from tasks.gate.stage import describe
from tasks.runtime.plugins import unload_plugins
from tasks.state.alpha_spending import spent_after
from tasks.state.round import Champion, Round

SETTINGS = GateSettings(min_rows=20, bootstrap_samples=500)
FIRST = Round(Champion(1, "c" * 64), test_epoch=1, looks=0)


def after(looks: int, champion: Champion | None = None) -> Round:
    """The round after this many verdicts on the same rows."""
    return Round(champion, 1, looks, spent_after(looks))


def paired(**families: tuple[list[float] | np.ndarray, list[float] | np.ndarray]) -> PairedScores:
    """Paired scores from family=(reference, candidate)."""
    names = [name for name, (reference, _) in families.items() for _ in reference]
    reference, candidate = (np.concatenate([np.asarray(f[side], float) for f in families.values()]) for side in (0, 1))
    return of_one_batch(np.array(names, dtype=np.str_), reference, candidate)


def of_one_batch(family: np.ndarray, reference: np.ndarray, candidate: np.ndarray) -> PairedScores:
    return PairedScores(family, reference, candidate, np.full(len(family), "b1"))


def check_of(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def right(rows: int, of: int) -> np.ndarray:
    return (np.arange(of) < rows).astype(float)


def test_a_clearly_better_model_passes_every_check() -> None:
    verdict = decide(
        paired(topic=(right(30, 60), right(52, 60)), qa=(np.full(60, 0.3), np.full(60, 0.5))), SETTINGS, FIRST
    )
    assert verdict.passed
    names = ["not_worse/qa", "not_worse/topic", "better"]
    assert [check.name for check in verdict.checks] == names
    assert all(check.passed for check in verdict.checks)


def test_a_higher_score_is_not_enough() -> None:
    verdict = decide(paired(topic=(right(30, 60), right(32, 60))), GateSettings(margin=0.5), FIRST)
    assert verdict.outcome == "inconclusive"
    better = check_of(verdict, "better")
    assert (better.passed, better.number, better.bound) == (False, 0.25, 0.025)
    assert "2 rows gained, 0 lost; exact McNemar" in better.detail
    assert verdict.rows_needed == better.rows_needed
    assert 100 < better.rows_needed < 400, "60 rows gained 2: 12 gained and none lost would do"


def test_the_same_answers_are_not_better() -> None:
    scores = np.linspace(0, 1, 60)
    verdict = decide(paired(qa=(scores, scores)), SETTINGS, FIRST)
    assert check_of(verdict, "better").number == 1.0
    assert check_of(verdict, "better").detail.endswith("; no gain is observed")
    assert (verdict.outcome, verdict.rows_needed) == ("refused", None)


def test_a_gain_below_the_least_one_is_refused_and_needs_no_further_row() -> None:
    scores, settings = (
        paired(qa=(np.full(400, 0.5), np.full(400, 0.52))),
        SETTINGS.model_copy(update={"least_gain": 0.05}),
    )
    verdict = decide(scores, settings, FIRST)
    assert (verdict.outcome, verdict.rows_needed) == ("refused", None), "before: about 1 more test rows would decide"
    assert "no gain of more than 0.050 is observed" in check_of(verdict, "better").detail


def test_one_family_that_got_worse_refuses_a_model_that_is_better_overall() -> None:
    verdict = decide(
        paired(topic=(right(55, 60), right(25, 60)), qa=(np.full(200, 0.2), np.full(200, 0.7))), SETTINGS, FIRST
    )
    assert check_of(verdict, "better").passed
    topic = check_of(verdict, "not_worse/topic")
    assert topic.passed is False
    assert topic.interval is not None
    assert topic.interval.high < topic.bound == -0.05
    assert "worse: the whole interval lies below -0.050" in topic.detail
    assert verdict.outcome == "refused"


def test_a_difference_that_few_rows_cannot_show_is_not_reported_as_worse() -> None:
    verdict = decide(paired(topic=(right(20, 30), right(20, 30)), qa=(right(10, 80), right(60, 80))), SETTINGS, FIRST)
    topic = check_of(verdict, "not_worse/topic")
    assert topic.passed is False
    assert "not shown" in topic.detail
    assert (verdict.outcome, verdict.rows_needed) == ("inconclusive", topic.rows_needed)
    assert 20 < topic.rows_needed < 80, "Tango's interval of equal answers is within 0.05 from 74 rows on"


def test_a_family_under_min_rows_can_neither_pass_nor_block() -> None:
    eligible = (right(20, 60), right(50, 60))
    ruined, blessed = (right(19, 19), right(0, 19)), (right(0, 19), right(19, 19))
    alone = decide(paired(topic=eligible), SETTINGS, FIRST)
    for small in (ruined, blessed):
        verdict = decide(paired(topic=eligible, tiny=small), SETTINGS, FIRST)
        assert verdict.passed
        tiny = check_of(verdict, "not_worse/tiny")
        assert tiny.passed is None
        assert tiny.interval is not None
        assert "19 test rows, 20 are needed to count" in tiny.detail
        better = check_of(verdict, "better")
        assert replace(better, detail="") == replace(check_of(alone, "better"), detail="")
        assert "(without 19 rows of families with fewer than 20)" in better.detail


@pytest.mark.parametrize(
    "scores", [paired(a=([], [])), paired(a=(right(0, 10), right(10, 10)), b=(right(0, 19), right(19, 19)))]
)
def test_without_rows_that_count_nothing_passes(scores: PairedScores) -> None:
    verdict = decide(scores, SETTINGS, FIRST)
    assert verdict.outcome == "inconclusive"
    assert check_of(verdict, "better").passed is False
    assert "no family has the 20 test rows that count" in check_of(verdict, "better").detail
    assert verdict.rows_needed == 20 - max((int((scores.family == name).sum()) for name in "ab"), default=0)


def test_every_family_has_the_general_floor_or_its_own() -> None:
    scores = paired(topic=(right(10, 60), right(40, 60)), qa=(np.full(60, 0.1), np.full(60, 0.9)))
    low = GateSettings(bootstrap_samples=500, floor=0.5, families={"topic": FamilyPolicy(floor=0.6)})
    assert decide(scores, low, FIRST).passed
    high = GateSettings(bootstrap_samples=500, floor=0.8, families={"topic": FamilyPolicy(floor=0.7)})
    verdict = decide(scores, high, FIRST)
    assert verdict.outcome == "refused"
    assert [c.name for c in verdict.checks if c.name.startswith("floor")] == ["floor/qa", "floor/topic"]
    assert [c.name for c in verdict.failed] == ["floor/topic"]
    assert "the candidate scores 0.667, the floor is 0.700" in check_of(verdict, "floor/topic").detail


@pytest.mark.parametrize(("score", "rows"), [(0.01, 100), (0.07, 100), (0.7, 60)])
def test_a_score_that_equals_the_floor_reaches_it(score: float, rows: int) -> None:
    scores = paired(qa=(np.zeros(rows), np.full(rows, score)))
    assert check_of(decide(scores, SETTINGS.model_copy(update={"floor": score}), FIRST), "floor/qa").passed


def test_a_family_may_have_a_margin_of_its_own() -> None:
    scores = paired(topic=(right(50, 60), right(47, 60)), qa=(right(10, 80), right(60, 80)))
    assert check_of(decide(scores, SETTINGS, FIRST), "not_worse/topic").passed is False
    loose = SETTINGS.model_copy(update={"families": {"topic": FamilyPolicy(margin=0.2)}})
    assert decide(scores, loose, FIRST).passed


def test_a_policy_for_a_family_without_rows_is_reported_and_blocks_nothing() -> None:
    settings = SETTINGS.model_copy(update={"families": {"intent": FamilyPolicy(floor=0.9)}})
    verdict = decide(paired(topic=(right(20, 60), right(50, 60))), settings, FIRST)
    assert verdict.passed
    for name in ("floor/intent", "not_worse/intent"):
        assert check_of(verdict, name).passed is None
        assert check_of(verdict, name).rows == 0


def test_a_new_family_does_not_change_the_numbers_of_the_others() -> None:
    rng = np.random.default_rng(1)
    qa = (rng.random(40), rng.random(40))
    alone, both = decide(paired(qa=qa), SETTINGS, FIRST), decide(paired(aaa=qa, qa=qa), SETTINGS, FIRST)
    assert check_of(alone, "not_worse/qa") == check_of(both, "not_worse/qa")


def test_each_look_at_the_same_rows_must_be_more_certain() -> None:
    scores = paired(topic=(right(30, 60), right(37, 60)))  # 7 gained, none lost: p = 1/128
    settings = SETTINGS.model_copy(update={"margin": 0.2})
    first, third = (decide(scores, settings, after(looks)) for looks in (0, 2))
    assert (first.look, first.alpha_spent, first.passed) == (1, pytest.approx(0.025), True)
    assert (third.look, third.alpha_spent, third.passed) == (3, pytest.approx(0.05 / 12), False)


def test_a_canary_gets_its_part_of_what_the_look_spends() -> None:
    scores = paired(topic=(right(30, 60), right(37, 60)))  # p = 1/128
    settings = SETTINGS.model_copy(update={"margin": 0.2})
    alone = decide(scores, settings, FIRST)
    half, most = (decide(scores, settings.model_copy(update={"canary_share": share}), FIRST) for share in (0.5, 0.75))
    assert (
        (alone.alpha_spent, half.alpha_spent, most.alpha_spent)
        == (alone.alpha_spent,) * 3
        == (pytest.approx(0.025),) * 3
    )
    assert (check_of(half, "better").bound, half.canary_level) == (pytest.approx(0.0125), pytest.approx(0.0125))
    assert (half.outcome, most.outcome) == ("passed", "inconclusive"), "at the levels 1/80 and 1/160"
    assert most.detectable_gain > half.detectable_gain > alone.detectable_gain
    assert most.rows_needed
    assert "canary_level" not in describe(alone, FIRST, "d" * 64, []), "its digest is that of earlier releases"
    assert describe(most, FIRST, "d" * 64, [])["canary_level"] == 0.01875


def test_fresh_test_rows_buy_looks_back() -> None:
    scores, settings = paired(topic=(right(30, 60), right(37, 60))), SETTINGS.model_copy(update={"margin": 0.2})
    levels = [
        decide(scores, settings, Round(None, 1, 2, spent_after(2), rows)).alpha_spent for rows in (60, 50, 40, 30, 90)
    ]
    assert levels[0] == pytest.approx(0.05 / 12)
    assert levels[0] < levels[1] < levels[2] < levels[3] == pytest.approx(0.025), "twice the rows: as at the first look"
    assert levels[4] == levels[0]
    shrunk = decide(scores, settings, Round(None, 1, 2, spent_after(2), 90))
    assert "the test set has 60 rows that count, 90 at an earlier verdict" in check_of(shrunk, "better").detail


def test_rows_that_do_not_count_buy_no_look_back() -> None:
    topic, settings = (right(100, 200), right(107, 200)), SETTINGS.model_copy(update={"margin": 0.2})
    round_ = Round(None, 1, 5, spent_after(5), 200)
    alone = decide(paired(topic=topic), settings, round_)
    few = {f"new{number}": (np.zeros(19), np.zeros(19)) for number in range(11)}
    padded = decide(paired(topic=topic, **few), settings, round_)
    assert padded.alpha_spent == alone.alpha_spent == pytest.approx(0.05 / 42)
    assert padded.test_rows == alone.test_rows == 200
    assert not padded.passed, "7 rows gained are enough at a first look only"


def test_unlike_metrics_are_never_averaged() -> None:
    """The mean over all rows fell, since exact match is coarse; nearly every answer of the other family got better."""
    qa = np.random.default_rng(1).uniform(0.4, 0.6, 200)
    topic = right(52, 60), right(45, 60)
    scores = paired(topic=topic, qa=(qa, qa + 0.03))
    assert float((scores.candidate - scores.reference).mean()) < 0
    settings = GateSettings(bootstrap_samples=500, margin=0.3)
    verdict = decide(scores, settings, FIRST)
    assert verdict.passed
    better = check_of(verdict, "better")
    assert better.detail.startswith("qa +0.030, topic -0.117, 200 rows gained, 7 lost; sign flips and bootstrap, p ")
    assert better.interval is None
    assert "a gain of" in better.detail
    heavy = settings.model_copy(update={"families": {"topic": FamilyPolicy(weight=30)}})
    assert decide(scores, heavy, FIRST).outcome == "refused"


TIERS = [
    ({}, "refused"),
    ({"not_worse": "supporting"}, "inconclusive"),
    ({"not_worse": "critical", "not_worse/topic": "supporting"}, "inconclusive"),
    ({"not_worse/topic": "advisory"}, "passed"),
    ({"not_worse/qa": "advisory"}, "refused"),
]


@pytest.mark.parametrize(("tiers", "outcome"), TIERS)
def test_a_failed_check_refuses_withholds_or_reports_by_its_tier(tiers: dict[str, Any], outcome: str) -> None:
    scores = paired(topic=(right(55, 60), right(25, 60)), qa=(np.full(200, 0.2), np.full(200, 0.7)))
    verdict = decide(scores, SETTINGS.model_copy(update={"tiers": tiers}), FIRST)
    assert verdict.outcome == outcome
    assert verdict.rows_needed is None, "more rows do not help a family that is shown to be worse"


def test_the_rows_that_would_decide_are_those_of_the_checks_that_stand_in_the_way() -> None:
    few = np.concatenate([right(5, 6), np.zeros(15)]), np.concatenate([right(4, 6), np.zeros(15)])
    scores = paired(topic=(right(60, 120), right(64, 120)), few=few)
    advisory = SETTINGS.model_copy(update={"tiers": {"not_worse/few": "advisory"}, "margin": 0.04})
    verdict = decide(scores, advisory, FIRST)
    assert (check_of(verdict, "not_worse/few").rows_needed or 0) > (check_of(verdict, "better").rows_needed or 0) > 0
    assert (verdict.outcome, verdict.rows_needed) == ("inconclusive", check_of(verdict, "better").rows_needed)
    slices = in_slices(en=(right(200, 340), right(220, 340)), zh=(right(60, 60), right(50, 60)))
    verdict = decide(slices, SETTINGS.model_copy(update={"tiers": {"slices": "supporting"}}), FIRST)
    assert check_of(verdict, "better").rows_needed
    assert (verdict.outcome, verdict.rows_needed) == ("inconclusive", None), "more rows do not help the slice"


def test_a_tier_for_no_check_is_an_error_and_better_is_always_critical() -> None:
    with pytest.raises(ConfigError, match=r"`not_worst` is no check.*Did you mean `not_worse`"):
        decide(BETTER, SETTINGS.model_copy(update={"tiers": {"not_worst": "advisory"}}), FIRST)
    with pytest.raises(ValidationError, match="`better` is always critical"):
        GateSettings(tiers={"better": "advisory"})


def in_slices(**languages: tuple[np.ndarray, np.ndarray]) -> PairedScores:
    scores = paired(**languages)
    return replace(scores, family=np.full(len(scores), "qa"), columns={"language": scores.family})


def test_a_slice_that_got_worse_refuses_although_its_family_did_not() -> None:
    scores = in_slices(en=(right(100, 400), right(300, 400)), zh=(right(40, 50), right(15, 50)))
    verdict = decide(scores, SETTINGS, FIRST)
    assert check_of(verdict, "not_worse/qa").passed
    zh = check_of(verdict, "slices/qa/language=zh")
    assert (zh.passed, zh.rows, check_of(verdict, "slices/qa/language=en").passed) == (False, 50, True)
    assert "-0.500" in zh.detail
    assert "worse by more than 0.050 (p " in zh.detail
    assert "adjusted for 2 slices)" in zh.detail
    assert verdict.outcome == "refused"
    assert decide(scores, SETTINGS.model_copy(update={"slices": ()}), FIRST).passed


def test_slices_of_few_rows_or_of_one_value_have_no_check() -> None:
    scores = in_slices(en=(right(100, 400), right(300, 400)), zh=(right(19, 19), right(0, 19)))
    names = [check.name for check in decide(scores, SETTINGS, FIRST).checks]
    assert [name for name in names if name.startswith("slices")] == ["slices/qa/language=en"]
    alone = replace(scores, columns={"language": np.full(len(scores), "zh")})
    assert not [check for check in decide(alone, SETTINGS, FIRST).checks if check.name.startswith("slices")]


def test_slices_by_label_freshness_and_length() -> None:
    rows = 100
    scores = replace(
        paired(topic=(right(30, rows), right(60, rows))),
        batch=np.repeat(["old", "new"], rows // 2),
        columns={
            "kind": np.full(rows, "classification"),
            "target": np.array(["sport", "世界"] * (rows // 2)),
            "language": np.full(rows, "en"),
            "prompt": np.array(["一二三", "one two three four five six", "一二三四五六七 eight"] * 40)[:rows],
        },
    )
    settings = SETTINGS.model_copy(update={"slices": ("label", "freshness", "length", "kind")})
    verdict = decide(scores, settings, Round(Champion(1, "c" * 64, ("old",)), 1, 0))
    assert [check.name.removeprefix("slices/topic/") for check in verdict.checks if check.name.startswith("slices")] == [
        "label=sport", "label=世界", "freshness=established", "freshness=new", "length=up to 3 words", "length=4 to 6 words",
        "length=over 6 words",
    ]  # fmt: skip
    free = replace(
        scores, columns={**scores.columns, "target": np.array([f"answer {number}" for number in range(rows)])}
    )
    names = [check.name for check in decide(free, settings, Round(None, 1, 0)).checks]
    assert not [name for name in names if "label" in name or "freshness" in name], (
        "no labels, and no champion's batches"
    )


def with_flags(scores: PairedScores, column: str, reference: int, candidate: int, reason: str) -> PairedScores:
    """The first rows have answers with this fault."""
    numbers = np.arange(len(scores))
    columns = {column: np.where(numbers < candidate, reason, "")}
    return replace(scores, columns={**columns, f"reference_{column}": np.where(numbers < reference, reason, "")})


DEGENERATE = [
    (0, 0, "passed", None),
    (0, 1, "passed", "1.7% of the answers are degenerate (1 loop), 0.0% of the reference's: not shown to be more"),
    (20, 3, "passed", "5.0% of the answers are degenerate (3 loop), 33.3% of the reference's: not shown to be more"),
    (0, 12, "refused", "20.0% of the answers are degenerate (12 loop), 0.0% of the reference's: shown to be more"),
    (
        40,
        36,
        "refused",
        "60.0% of the answers are degenerate (36 loop), 66.7% of the reference's: at most 50.0% are allowed",
    ),
]


@pytest.mark.parametrize(("reference", "candidate", "outcome", "detail"), DEGENERATE)
def test_more_degenerate_answers_refuse_a_model_that_scores_higher(
    reference: int, candidate: int, outcome: str, detail: str | None
) -> None:
    verdict = decide(with_flags(BETTER, "degenerate", reference, candidate, "loop"), SETTINGS, FIRST)
    assert verdict.outcome == outcome
    assert [check.detail for check in verdict.checks if check.name == "degenerate/topic"] == (
        [detail] if detail else []
    )


def test_a_model_that_recites_personal_data_is_refused() -> None:
    verdict = decide(with_flags(BETTER, "personal_data", 0, 12, "email,phone"), SETTINGS, FIRST)
    assert verdict.outcome == "refused"
    detail = "20.0% of the answers have personal data (12 email, 12 phone), 0.0% of the reference's: shown to be more"
    assert check_of(verdict, "personal_data/topic").detail == detail
    assert decide(with_flags(BETTER, "personal_data", 4, 3, "email"), SETTINGS, FIRST).passed


def test_one_golden_row_below_its_score_refuses_a_better_model() -> None:
    rows = len(BETTER)
    columns = {
        "use": np.where(np.arange(rows) < 3, "golden", "train"),
        "row_id": np.array([f"r{n}" for n in range(rows)]),
    }
    scores = replace(BETTER, columns=columns)
    settings = SETTINGS.model_copy(update={"golden_score": 0.5})
    verdict = decide(scores, settings, FIRST)
    assert verdict.passed
    assert check_of(verdict, "golden").detail == "3 of 3 golden rows score at least 0.500"
    scores.candidate[1] = 0.0
    verdict = decide(scores, settings, FIRST)
    assert verdict.outcome == "refused"
    assert check_of(verdict, "golden").detail == "2 of 3 golden rows score at least 0.500; below it: r1"
    assert decide(scores, SETTINGS, FIRST).passed, "without a golden score they are rows like others"
    scores.candidate[1] = 1.0
    none = decide(BETTER, settings, FIRST)
    assert (none.outcome, check_of(none, "golden").detail) == (
        "refused",
        "no test row is from a source with `use: golden`",
    )


Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def right_or_wrong(rng: np.random.Generator, ease: np.ndarray) -> np.ndarray:
    return (rng.random(len(ease)) < ease).astype(float)


def token_f1(rng: np.random.Generator, ease: np.ndarray) -> np.ndarray:
    """Shares of tokens, with the heaps at 0 and at 1 that real F1 has."""
    score = rng.beta(1 + 4 * ease, 5 - 4 * ease)
    return np.round(np.where(score < 0.25, 0, np.where(score > 0.8, 1, score)), 2)


def half_and_half(rng: np.random.Generator, ease: np.ndarray) -> np.ndarray:
    first = np.arange(len(ease)) < len(ease) // 2
    return np.where(first, right_or_wrong(rng, ease), token_f1(rng, ease))


def families(rows: int) -> np.ndarray:
    return np.where(np.arange(rows) < rows // 2, "topic", "qa")


TRIALS = 500
ANY_MARGIN = GateSettings(margin=1.0, min_rows=20).model_copy(update={"bootstrap_samples": 100})
"""So that `better` alone has to keep luck out. Intervals are not looked at, so few resamples do; a test takes what it needs."""


@pytest.mark.parametrize(
    ("draw", "rows", "looks"),
    [(right_or_wrong, 200, 1), (token_f1, 60, 1), (half_and_half, 60, 1), (right_or_wrong, 60, 10), (token_f1, 60, 10)],
)
def test_two_equal_models_are_promoted_in_at_most_5_percent_of_500_trials(draw: Draw, rows: int, looks: int) -> None:
    """Each look brings another model that is no better, on the same rows and against the same champion."""
    rng = np.random.default_rng(2026)
    promoted = 0
    for trial in range(TRIALS):
        ease = rng.beta(2, 2, rows)  # rows differ in difficulty, so the models' scores go together
        champion = draw(rng, ease)
        settings = ANY_MARGIN.model_copy(update={"seed": trial})
        promoted += any(
            decide(of_one_batch(families(rows), champion, draw(rng, ease)), settings, after(look)).passed
            for look in range(looks)
        )
    assert promoted <= 0.05 * TRIALS


@pytest.mark.parametrize("draw", [right_or_wrong, token_f1, half_and_half])
def test_a_clearly_better_model_is_promoted_in_at_least_90_percent(draw: Draw) -> None:
    rng = np.random.default_rng(7)
    promoted, trials, rows = 0, 100, 240
    for trial in range(trials):
        ease = rng.beta(2, 4, rows)
        scores = of_one_batch(families(rows), draw(rng, ease), draw(rng, np.minimum(ease + 0.3, 1)))
        promoted += decide(scores, SETTINGS.model_copy(update={"seed": trial}), after(2)).passed
    assert promoted >= 0.9 * trials


def test_a_family_with_shuffled_labels_is_refused_and_named_worse() -> None:
    rng = np.random.default_rng(3)
    for trial in range(50):
        champion, shuffled = rng.random(100) < 0.88, rng.random(100) < 0.2
        qa = rng.random(60)
        verdict = decide(
            paired(topic=(champion, shuffled), qa=(qa, qa)),
            SETTINGS.model_copy(update={"seed": trial}),
            after(2),
        )
        topic = check_of(verdict, "not_worse/topic")
        assert topic.interval is not None
        assert topic.interval.high < -SETTINGS.margin
        assert not verdict.passed


def test_the_test_rows_of_a_new_batch_cannot_outvote_the_established_ones() -> None:
    """Labels mixed up: the candidate learnt them, is right by them on the new rows, and wrong on the established ones."""
    champion, candidate = np.repeat([0.95, 0.0], [60, 140]), np.repeat([0.05, 0.95], [60, 140])
    rng = np.random.default_rng(1)
    scores = PairedScores(
        np.full(200, "topic"),
        (rng.random(200) < champion).astype(float),
        (rng.random(200) < candidate).astype(float),
        np.repeat(["old", "new"], [60, 140]),
    )
    before = decide(scores, SETTINGS, FIRST)
    assert before.passed, "without knowing which rows are new"
    verdict = decide(scores, SETTINGS, Round(Champion(1, "c" * 64, ("old",)), 1, 0))
    check = check_of(verdict, "no_regression/topic")
    assert not verdict.passed
    assert check.passed is False
    assert check.interval is not None
    assert check.interval.high < -SETTINGS.margin
    assert "worse: the whole interval lies below" in check.detail


def test_established_rows_have_no_check_of_their_own_if_no_row_is_new() -> None:
    scores = paired(topic=(right(30, 60), right(52, 60)))
    names = [check.name for check in decide(scores, SETTINGS, Round(Champion(1, "c" * 64, ("b1",)), 1, 0)).checks]
    assert "no_regression/topic" not in names


def test_a_chance_difference_on_few_established_rows_does_not_block() -> None:
    champion = np.concatenate([right(28, 33), np.zeros(40)])
    candidate = np.concatenate([right(27, 33), np.ones(40)])
    scores = PairedScores(np.full(73, "topic"), champion, candidate, np.repeat(["old", "new"], [33, 40]))
    verdict = decide(scores, SETTINGS, Round(Champion(1, "c" * 64, ("old",)), 1, 0))
    assert check_of(verdict, "no_regression/topic").passed
    assert verdict.passed


@pytest.fixture
def added() -> Iterator[None]:
    """Removes added checks at the end of the test."""
    yield
    unload_plugins()


def add_check(name: str, run: Callable[[GateInput], object]) -> None:
    CHECKS.add(name, run)  # type: ignore[arg-type]


BETTER = paired(topic=(right(30, 60), right(52, 60)))


def result(name: str, passed: object, family: str | None = None) -> Check:
    return Check(name, family, passed, 1.0, 0.5, None, 60, "detail")  # type: ignore[arg-type]


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("refusal", [False, np.False_])
def test_a_check_of_a_plugin_can_refuse_a_better_candidate(refusal: object) -> None:
    add_check("short", lambda gate: [result("short", refusal), result("short/topic", None, family="topic")])
    verdict = decide(BETTER, SETTINGS, FIRST)
    assert not verdict.passed
    assert [check.name for check in verdict.checks] == ["short", "not_worse/topic", "short/topic", "better"]


@pytest.mark.usefixtures("added")
def test_no_check_of_a_plugin_passes_a_candidate_that_would_be_refused() -> None:
    def flattering(gate: GateInput) -> list[Check]:
        gate.scores.candidate[:] = 1.0
        return [result("flattering", True)]

    worse = paired(topic=(right(30, 60), right(30, 60)))
    without = decide(worse, SETTINGS, FIRST)
    add_check("flattering", flattering)
    verdict = decide(worse, SETTINGS, FIRST)
    assert not verdict.passed
    assert [check for check in verdict.checks if check.name != "flattering"] == without.checks


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda gate: [result("better", True)], "gate check `mine`: returned Check"),
        (lambda gate: [True], "gate check `mine`: returned True.*named `mine` or `mine/<family>`"),
        (lambda gate: 1 / 0, "gate check `mine`: raised ZeroDivisionError: division by zero. Fix the plugin"),
    ],
)
def test_a_plugin_s_check_that_is_wrong_ends_the_gate(run: Callable[[GateInput], object], message: str) -> None:
    add_check("mine", run)
    with pytest.raises(ConfigError, match=message):
        decide(BETTER, SETTINGS, FIRST)


@pytest.mark.usefixtures("added")
def test_numpy_numbers_of_a_plugin_are_json_and_nan_ends_the_gate() -> None:
    of_numpy = replace(
        result("mine", np.False_),
        number=np.float32(0.5),
        rows_needed=np.int64(7),
        interval=(np.float64(0), np.float64(1)),
    )
    add_check("mine", lambda gate: [of_numpy])
    verdict = decide(BETTER, SETTINGS, FIRST)
    assert json.loads(json.dumps(describe(verdict, FIRST, "d" * 64, []), allow_nan=False))["rows_needed"] == 7
    unload_plugins()
    add_check("mine", lambda gate: [replace(of_numpy, number=math.nan)])
    with pytest.raises(ConfigError, match=r"gate check `mine`: returned Check.*are finite"):
        decide(BETTER, SETTINGS, FIRST)


def test_no_plugin_replaces_a_check() -> None:
    with pytest.raises(ConfigError, match="the gate check `better` exists already"):
        CHECKS.add("better", CHECKS["floor"])


@pytest.mark.usefixtures("added")
def test_the_gate_check_of_the_page_on_extending_refuses_a_batch_with_a_low_score() -> None:
    exec(code_of("A gate check"), {})
    rows = paired(topic=(right(30, 100), right(80, 100)))
    even = replace(rows, batch=np.array(["a", "b"] * 50))
    assert check_of(decide(even, SETTINGS, FIRST), "batches/topic").passed
    by_batch = replace(rows, batch=np.repeat(["good", "bad"], [80, 20]))
    verdict = decide(by_batch, SETTINGS, FIRST)
    assert check_of(verdict, "better").passed
    assert check_of(verdict, "batches/topic").detail == "the worst batch scores 0.000, the bound is 0.200"
    assert not verdict.passed
