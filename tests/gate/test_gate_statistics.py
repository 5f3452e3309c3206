"""The statistics that compare two models: known values, coverage, symmetry, and samples without information."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from tasks.scoring.statistics import (
    bootstrap_interval,
    difference_interval,
    is_binary,
    score_interval,
    tango_interval,
    wilson_interval,
)
from tasks.scoring.superiority import PairedFamily, Superiority, mcnemar_p, superiority_test

QUICK = {"confidence": 0.95, "samples": 1000, "seed": 1}


def pairs(gained: int, lost: int, both: int = 0, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Right/wrong scores of reference and candidate with these counts."""
    reference = [0] * gained + [1] * lost + [1] * both + [0] * neither
    candidate = [1] * gained + [0] * lost + [1] * both + [0] * neither
    return np.array(reference, dtype=float), np.array(candidate, dtype=float)


def better(reference: np.ndarray, candidate: np.ndarray, **options: Any) -> Superiority:
    return superiority_test([PairedFamily(reference, candidate)], **options)


def better_p(differences: np.ndarray, **options: Any) -> float:
    return better(np.zeros(len(differences)), differences, **options).p


@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (5, 0), (8, 2), (3, 3), (0, 4), (60, 40)])
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_rows(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue
    assert mcnemar_p(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_without_a_discordant_row_nothing_is_better() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert better(*pairs(0, 0, 30, 30), level=0.025, samples=500, seed=1).p == 1.0


@pytest.mark.parametrize(("successes", "rows"), [(0, 10), (10, 10), (3, 17), (87, 120)])
def test_wilson_agrees_with_scipy(successes: int, rows: int) -> None:
    expected = binomtest(successes, rows).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, rows, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-9)


def score_by_search(delta: float, gained: int, lost: int, rows: int) -> float:
    """Tango's statistic from its definition: the nuisance share by numerical maximum likelihood."""

    def loss(share: float) -> float:
        cells = ((gained, share + delta), (lost, share), (rows - gained - lost, 1 - 2 * share - delta))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    share = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - rows * delta) / math.sqrt(rows * (2 * share + delta - delta**2))


@pytest.mark.parametrize(("gained", "lost", "rows"), [(12, 2, 50), (1, 9, 40), (5, 5, 100), (0, 3, 20), (20, 1, 60)])
def test_the_ends_of_tangos_interval_solve_the_score_equation(gained: int, lost: int, rows: int) -> None:
    interval = tango_interval(gained, lost, rows, 0.95)
    assert score_by_search(interval.low, gained, lost, rows) == pytest.approx(1.959964, abs=1e-3)
    assert score_by_search(interval.high, gained, lost, rows) == pytest.approx(-1.959964, abs=1e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 80), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=150, deadline=None)
def test_swapping_the_models_mirrors_tangos_interval(gained: int, lost: int, tied: int, confidence: float) -> None:
    rows = gained + lost + tied
    ahead, behind = tango_interval(gained, lost, rows, confidence), tango_interval(lost, gained, rows, confidence)
    assert ahead.low == pytest.approx(-behind.high, abs=1e-7)
    assert -1 <= ahead.low <= (gained - lost) / max(rows, 1) <= ahead.high <= 1


@given(st.lists(st.floats(-1, 1, allow_subnormal=False), max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_bootstrap_interval_contains_the_mean_and_stays_on_the_scale(values: list[float]) -> None:
    interval = bootstrap_interval(np.array(values), -1, 1, **QUICK)
    assert -1 <= interval.low <= interval.high <= 1
    if values:
        assert interval.low <= np.mean(values) <= interval.high


@pytest.mark.parametrize("rows", [1, 5, 20, 60])
def test_rows_without_a_difference_leave_room_for_one(rows: int) -> None:
    """Of what was not seen in n rows, a share of about 3 / n may still be there."""
    same = np.full(rows, 0.4)
    for interval in (difference_interval(same, same, **QUICK), tango_interval(0, 0, rows, 0.95)):
        assert interval.low < -1.5 / (rows + 2)
        assert interval.high > 1.5 / (rows + 2)


def test_all_scores_equal_give_an_interval_of_some_width() -> None:
    for value in (0.0, 0.37, 1.0):
        interval = score_interval(np.full(20, value), **QUICK)
        assert interval.low <= value <= interval.high
        assert interval.high - interval.low > 0.02


def test_no_rows_give_no_evidence() -> None:
    none = np.array([])
    assert score_interval(none, **QUICK) == (0, 1)
    assert difference_interval(none, none, **QUICK) == (-1, 1)
    assert bootstrap_interval(none, -1, 1, **QUICK) == (-1, 1)
    assert better(none, none, level=0.025, samples=500, seed=1).p == 1.0


def test_binary_scores_take_the_exact_methods_and_others_the_bootstrap() -> None:
    reference, candidate = pairs(8, 1, 20, 20)
    assert is_binary(reference, candidate)
    assert better(reference, candidate, level=0.025, samples=500, seed=1) == (
        mcnemar_p(8, 1),
        "exact McNemar",
    )
    assert better(reference * 0.9, candidate, level=0.025, samples=500, seed=1).method == "sign flips and bootstrap"


def test_equal_seeds_give_equal_numbers() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.3, 50).clip(-1, 1)
    first, again = (better_p(differences, level=0.025, samples=500, seed=[3, 4]) for _ in range(2))
    assert first == again
    assert bootstrap_interval(differences, -1, 1, **QUICK) == bootstrap_interval(differences, -1, 1, **QUICK)


def test_a_sure_difference_reaches_the_level_of_a_late_look() -> None:
    """The hundredth look asks for p <= 5e-6: more resamples are drawn, or it could never be reached."""
    differences = np.full(60, 0.3)
    assert better_p(differences, level=0.05 / (100 * 101), samples=500, seed=1) <= 0.05 / (100 * 101)


def test_five_rows_cannot_show_what_no_five_rows_can() -> None:
    """Five coin tosses all fall on heads once in 32: a bootstrap alone would say p = 0."""
    assert better_p(np.full(5, 0.3), level=0.025, samples=500, seed=1) > 0.025


def token_f1_like(rng: np.random.Generator, rows: int, shift: float) -> np.ndarray:
    """Differences of scores in [0, 1] with ties: half the rows are the same for both models."""
    reference = np.where(rng.random(rows) < 0.3, rng.integers(0, 2, rows), rng.beta(2, 2, rows))
    change = np.where(rng.random(rows) < 0.5, 0, rng.normal(2 * shift, 0.3, rows))
    return (reference + change).clip(0, 1) - reference


@pytest.mark.parametrize("rows", [20, 60, 200])
def test_the_bootstrap_interval_covers_the_truth(rows: int) -> None:
    rng = np.random.default_rng(rows)
    truth = float(token_f1_like(rng, 500_000, -0.03).mean())
    intervals = [
        bootstrap_interval(token_f1_like(rng, rows, -0.03), -1, 1, confidence=0.95, samples=400, seed=trial)
        for trial in range(400)
    ]
    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.93


@pytest.mark.parametrize("rows", [20, 60, 200])
def test_tangos_interval_covers_the_truth(rows: int) -> None:
    rng = np.random.default_rng(rows)
    counts = rng.multinomial(rows, [0.04, 0.09, 0.87], size=1500)
    covered = [low <= -0.05 <= high for low, high in (tango_interval(*two, rows, 0.95) for *two, _ in counts.tolist())]
    assert np.mean(covered) >= 0.93


def test_rare_heavy_losses_do_not_slip_through_a_small_sample() -> None:
    """One row in twenty lost entirely is a mean of -0.05. A plain bootstrap of 40 rows misses it 13 times in 100."""
    rng = np.random.default_rng(5)
    passed = [
        bootstrap_interval(-0.99 * (rng.random(40) < 0.05), -1, 1, confidence=0.95, samples=400, seed=trial).low
        > -0.0495
        for trial in range(500)
    ]
    assert np.mean(passed) <= 0.06
