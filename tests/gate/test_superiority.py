"""The test of "better" over families with unlike metrics, sample sizes, and adjusted p-values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test

from tasks.scoring.resampling import weighted_means
from tasks.scoring.superiority import (
    POWER,
    PairedFamily,
    detectable_gain,
    harm_p,
    holm,
    mcnemar_p,
    rows_for_superiority,
    superiority_test,
)
from tasks.state.verdict import MANY_ROWS

LEVEL: dict[str, Any] = {"level": 0.025, "samples": 2000, "seed": 1}


def right_or_wrong(gained: int, lost: int, same: int = 0, weight: float = 1.0) -> PairedFamily:
    reference = np.repeat([0.0, 1.0, 1.0], [gained, lost, same])
    candidate = np.repeat([1.0, 0.0, 1.0], [gained, lost, same])
    return PairedFamily(reference, candidate, weight)


def f1_like(rng: np.random.Generator, rows: int, gain: float, scale: float = 1.0, weight: float = 1.0) -> PairedFamily:
    """Scores from 0 to `scale`; the same on a third of the rows."""
    reference = rng.beta(2, 2, rows)
    change = np.where(rng.random(rows) < 1 / 3, 0, rng.normal(gain, 0.2, rows))
    return PairedFamily(scale * reference, scale * (reference + change).clip(0, 1), weight)


def test_families_of_right_or_wrong_answers_get_mcnemars_test_of_all_their_rows() -> None:
    families = [right_or_wrong(8, 2, 30), right_or_wrong(7, 4, 500)]
    assert superiority_test(families, **LEVEL) == (mcnemar_p(15, 6), "exact McNemar")


def test_without_families_or_differences_nothing_is_better() -> None:
    for families in ([], [right_or_wrong(0, 0, 30)], [right_or_wrong(0, 0, 30), PairedFamily(*np.full((2, 9), 0.3))]):
        assert superiority_test(families, **LEVEL).p == 1.0
        assert rows_for_superiority(families, 0.025) is None


def test_the_scale_of_a_metric_does_not_decide() -> None:
    """A family scored from 0 to 0.1 has as much to say as one scored from 0 to 1."""
    rng = np.random.default_rng(3)
    worse = f1_like(rng, 60, -0.10)
    small, large = (f1_like(np.random.default_rng(4), 90, 0.12, scale) for scale in (0.1, 1.0))
    assert float(np.concatenate([worse.differences, small.differences]).mean()) < 0, "the mean of unlike scores"
    by_small, by_large = (superiority_test([worse, family], **LEVEL).p for family in (small, large))
    assert by_small == pytest.approx(by_large, abs=0.01)


def test_a_weight_counts_like_that_many_rows() -> None:
    gaining, losing = right_or_wrong(12, 4), right_or_wrong(3, 11)
    even = superiority_test([gaining, losing], **LEVEL).p
    heavy = superiority_test([right_or_wrong(12, 4, weight=3.0), losing], **LEVEL)
    assert heavy.method == "sign flips"
    assert heavy.p < even
    terms = [3 * (2 * k - 16) + (2 * m - 14) for k in range(17) for m in range(15)]
    chances = [binom.pmf(k, 16, 0.5) * binom.pmf(m, 14, 0.5) for k in range(17) for m in range(15)]
    exact = sum(chance for term, chance in zip(terms, chances, strict=True) if term >= 3 * 8 - 8)
    assert heavy.p == pytest.approx(exact, abs=0.01)


def test_sign_flips_agree_with_scipys_permutation_test() -> None:
    rng = np.random.default_rng(5)
    family = f1_like(rng, 14, 0.05)
    expected = permutation_test(
        (family.candidate, family.reference), lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples", alternative="greater", n_resamples=np.inf,
    ).pvalue  # fmt: skip
    assert expected > 0.025, "so that the bootstrap has no say"
    assert superiority_test([family], level=0.025, samples=200_000, seed=1).p == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("change", [0.3, 0.05, 0.001, 1e-16])
def test_one_answer_that_changed_a_little_does_not_veto_another_family(change: float) -> None:
    gaining, other = right_or_wrong(60, 20, 920), np.full(100, 0.4)
    alone = superiority_test([gaining], **LEVEL).p
    changed = other + np.where(np.arange(100) == 0, change, 0.0)
    assert alone < 1e-4
    assert superiority_test([gaining, PairedFamily(other, changed)], **LEVEL).p < 0.005


def test_rare_total_losses_that_were_not_seen_in_several_families_rarely_pass() -> None:
    """The true gain is 0: each answer gains 0.02, and one of 51 loses everything."""
    rng, promoted, trials = np.random.default_rng(12), 0, 300
    for trial in range(trials):
        lost = rng.random((4, 100)) < 1 / 51
        families = [PairedFamily(np.where(each, 1.0, 0.5), np.where(each, 0.0, 0.52)) for each in lost]
        promoted += superiority_test(families, level=0.025, samples=500, seed=trial).p <= 0.025
    assert promoted <= 0.06 * trials, "before, 12 %"


def test_a_gain_that_is_not_worth_having_is_not_enough() -> None:
    families = [f1_like(np.random.default_rng(6), 400, 0.06)]
    gain = float(families[0].differences.mean())
    assert superiority_test(families, **LEVEL).p <= 0.025
    assert superiority_test(families, least_gain=gain - 0.03, **LEVEL).p <= 0.025
    assert superiority_test(families, least_gain=gain, **LEVEL).p > 0.3
    sure = right_or_wrong(40, 5, 400)
    assert superiority_test([sure], least_gain=0.02, **LEVEL).p <= 0.025
    assert superiority_test([sure], least_gain=0.08, **LEVEL).p > 0.3


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_its_definition(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        steps = [min(1.0, (len(p_values) - j) * p_values[order[j]]) for j in range(rank + 1)]
        assert adjusted[index] == max(steps)
    assert all(mine >= p for mine, p in zip(adjusted, p_values, strict=True))


def test_holm_has_the_values_of_a_textbook() -> None:
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("gained", "lost", "same"), [(2, 30, 68), (10, 12, 78), (0, 0, 100)])
def test_harm_is_shown_where_the_interval_lies_below_the_margin(gained: int, lost: int, same: int) -> None:
    from tasks.scoring.statistics import tango_interval

    family = right_or_wrong(gained, lost, same)
    p = harm_p(family.reference, family.candidate, margin=0.05, level=0.025, samples=1000, seed=1)
    high = tango_interval(gained, lost, gained + lost + same, 0.95).high
    assert (p <= 0.025) == (high < -0.05)


def test_harm_of_other_scores_is_shown_by_the_bootstrap_and_never_without_rows() -> None:
    family = f1_like(np.random.default_rng(8), 200, -0.2)
    options: dict[str, Any] = {"level": 0.025, "samples": 1000, "seed": 1}
    assert harm_p(family.reference, family.candidate, margin=0.05, **options) <= 0.025
    assert harm_p(family.reference, family.candidate, margin=0.3, **options) > 0.9
    assert harm_p(np.zeros(0), np.zeros(0), margin=0.05, **options) == 1.0


@pytest.mark.parametrize(("rows", "share"), [(400, 0.1), (1000, 0.3)])
def test_the_detectable_gain_is_detected_in_about_four_of_five_trials(rows: int, share: float) -> None:
    """Models that differ on a share of the rows, and a true gain of the size that the first trial calls detectable."""
    rng = np.random.default_rng(9)
    first = right_or_wrong(round(rows * share / 2), round(rows * share / 2), rows - 2 * round(rows * share / 2))
    gain = detectable_gain([first], 0.025)
    detected = 0
    for _ in range(400):
        gained, lost, _ = rng.multinomial(rows, [(share + gain) / 2, (share - gain) / 2, 1 - share])
        detected += mcnemar_p(gained, lost) <= 0.025
    assert POWER - 0.1 < detected / 400 < POWER + 0.1


def test_the_detectable_gain_falls_with_the_rows_and_is_everything_without_any() -> None:
    gains = [
        detectable_gain([right_or_wrong(rows // 20, rows // 20, rows - 2 * (rows // 20))], 0.025)
        for rows in (50, 500, 5000)
    ]
    assert gains[0] > gains[1] > gains[2] > 0
    assert detectable_gain([], 0.025) == 1.0
    assert detectable_gain([PairedFamily(*np.full((2, 3), 0.5))], 0.025) > 0.9


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 100))
def test_so_many_further_rows_like_these_show_the_gain(gained: int, lost: int, same: int) -> None:
    needed = rows_for_superiority([right_or_wrong(gained, lost, same)], 0.025)
    if gained <= lost:
        assert needed is None
        return
    assert needed is not None
    factor = 1 + needed / (gained + lost + same)
    z = (gained - lost) * factor / math.sqrt((gained + lost) * factor)
    assert needed in (1, MANY_ROWS) or z == pytest.approx(1.96 + 0.8416, abs=0.1)


def test_the_least_gain_is_part_of_the_rows_and_of_the_detectable_gain() -> None:
    """A gain of 0.04 does not become one of 0.05 with more rows; without a least gain it is shown already."""
    families = [right_or_wrong(60, 20, 920)]
    assert rows_for_superiority(families, 0.025, 0.05) is None
    needed = rows_for_superiority(families, 0.025, 0.03)
    assert needed is not None
    assert 2000 < needed < 10_000, "the excess over the least gain is 0.01 with a standard error of 0.009"
    assert detectable_gain(families, 0.025, 0.05) == pytest.approx(0.05 + detectable_gain(families, 0.025))


@pytest.mark.parametrize("rows", [1900, 3000])
def test_many_distinct_small_differences_are_not_rounded_away(rows: int) -> None:
    rng = np.random.default_rng(13)
    draw = weighted_means(rng.uniform(0.0001, 0.0004, rows), -1.0, 1.0, rng)
    assert float(draw(2000).mean()) == pytest.approx(0.00025, abs=0.00003)
