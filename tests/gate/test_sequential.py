"""The test on a canary's ratings: its error holds at every look, exactly, and it finds real differences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from tasks.scoring.sequential import centred_scores, difference_bounds, log_e_values, weigh

RATINGS = 5
"""2 ** 10 outcomes are enumerated."""


def expected_e_values(share: float, champion: Sequence[float], canary: Sequence[float]) -> tuple[float, float]:
    """The exact expectation of both e-values after ratings with these probabilities of a good one."""
    benefit = harm = 0.0
    for arms in itertools.product((False, True), repeat=RATINGS):
        for values in itertools.product((0.0, 1.0), repeat=RATINGS):
            probability = 1.0
            for value, is_canary, low, high in zip(values, arms, champion, canary, strict=True):
                good = high if is_canary else low
                probability *= (share if is_canary else 1 - share) * (good if value else 1 - good)
            scores = centred_scores(values, arms, share)
            benefit += probability * float(np.exp(log_e_values(scores, share)[-1]))
            harm += probability * float(np.exp(log_e_values(-scores, share)[-1]))
    return benefit, harm


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("rates", [[0.7] * RATINGS, [0.9, 0.1, 0.5, 0.2, 0.8]], ids=["steady", "drifting"])
def test_evidence_between_equal_models_grows_on_average_by_nothing(share: float, rates: list[float]) -> None:
    assert expected_e_values(share, rates, rates) == pytest.approx((1.0, 1.0), abs=1e-12)


def test_evidence_for_a_benefit_shrinks_on_average_where_the_canary_is_worse_and_grows_where_it_is_better() -> None:
    worse = expected_e_values(0.5, [0.7] * RATINGS, [0.5] * RATINGS)
    better = expected_e_values(0.5, [0.5] * RATINGS, [0.7] * RATINGS)
    assert worse[0] < 1 < worse[1]
    assert better[1] < 1 < better[0]


def simulated(gain: float, count: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    arms = chance.random(count) < share
    return (chance.random(count) < np.where(arms, 0.6 + gain, 0.6)).astype(float), arms


def test_a_large_difference_is_shown_and_an_equal_model_is_not() -> None:
    assert weigh(*simulated(-0.3, 1000, 0.2), 0.2).harm > 1000
    assert weigh(*simulated(0.3, 1000, 0.2), 0.2).benefit > 1000
    equal = weigh(*simulated(0.0, 1000, 0.2), 0.2)
    assert max(equal.benefit, equal.harm) < 20
    assert (equal.ratings, equal.difference) == (1000, pytest.approx(0.0, abs=0.1))


def test_evidence_once_shown_stays_whatever_comes_later() -> None:
    values, arms = simulated(0.4, 300, 0.5)
    shown = weigh(values, arms, 0.5).benefit
    later, later_arms = simulated(-0.4, 300, 0.5, seed=1)
    both = weigh(np.concatenate([values, later]), np.concatenate([arms, later_arms]), 0.5)
    assert both.benefit >= shown > 20


def test_bounds_cover_the_difference_and_become_narrower() -> None:
    for gain in (-0.2, 0.0, 0.3):
        wide, narrow = (difference_bounds(*simulated(gain, count, 0.5), 0.5, 0.05) for count in (200, 4000))
        assert narrow[0] < gain < narrow[1]
        assert narrow[1] - narrow[0] < 0.5 * (wide[1] - wide[0])
    assert difference_bounds([], [], 0.5, 0.05) == (-1.0, 1.0)


def test_one_rating_decides_nothing_and_ratings_on_one_side_show_nothing() -> None:
    assert weigh([1.0], [True], 0.01).benefit < 2
    assert weigh([], [], 0.5).ratings == 0
    assert weigh([1.0] * 50, [False] * 50, 0.5).benefit < 20


@pytest.mark.parametrize(("values", "arms", "share"), [([1.5], [True], 0.5), ([0.5], [True], 1.0), ([0.5], [], 0.5)])
def test_values_out_of_range_are_refused(values: list[float], arms: list[bool], share: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        weigh(values, arms, share)
