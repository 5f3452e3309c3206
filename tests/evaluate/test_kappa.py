"""Cohen's kappa equals the published values and scikit-learn's, and its interval is honest with few rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tasks.scoring.agreement import agreement_table, cohen_kappa, kappa_interval

LABELS = ("A", "B", "tie")


def interval(table: np.ndarray) -> tuple[float, float]:
    return kappa_interval(table, confidence=0.95, samples=2000, seed=1)


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ([[20, 5], [10, 15]], 0.4),  # the usual textbook example (Wikipedia, "Cohen's kappa")
        ([[45, 15], [25, 15]], 0.1304),  # the same page: equal agreement of 60 %, but unlike shares
        ([[25, 35], [5, 35]], 0.2593),
        ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], 0.4915),  # Fleiss, Cohen and Everitt (1969), 0.492
    ],
)
def test_kappa_has_the_published_values(table: list[list[int]], kappa: float) -> None:
    assert cohen_kappa(np.array(table, dtype=np.float64)) == pytest.approx(kappa, abs=5e-5)


def test_kappa_equals_scikit_learn_on_random_answers() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        first, second = (rng.choice(LABELS, size=40, p=rng.dirichlet([1, 1, 1])).tolist() for _ in range(2))
        second = [one if rng.random() < 0.5 else other for one, other in zip(first, second, strict=True)]
        if len({*first, *second}) > 1:
            table = agreement_table(first, second, LABELS)
            assert cohen_kappa(table) == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_raters_that_always_give_one_label_have_shown_no_agreement() -> None:
    table = agreement_table(["A"] * 200, ["A"] * 200, LABELS)
    assert cohen_kappa(table) == 0.0
    assert interval(table)[0] < 0.1
    assert cohen_kappa(np.zeros((3, 3))) == 0.0
    assert interval(np.zeros((3, 3))) == (-1.0, 1.0)


def test_a_few_rows_give_no_certainty_and_many_do() -> None:
    few, many = (agreement_table(["A", "B"] * n, ["A", "B"] * n, LABELS) for n in (2, 50))
    assert cohen_kappa(few) == cohen_kappa(many) == 1.0
    assert interval(few)[0] < 0.4 < 0.9 < interval(many)[0]


def test_the_interval_is_the_same_on_each_run() -> None:
    table = agreement_table(["A", "B", "tie"] * 9, ["A", "B", "B"] * 9, LABELS)
    assert interval(table) == interval(table)
    assert interval(table)[0] < cohen_kappa(table) < interval(table)[1]
