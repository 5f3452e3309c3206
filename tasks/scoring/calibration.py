"""Calibration of a classifier's probabilities: expected calibration error. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 15


def expected_calibration_error(confidence: Sequence[float], is_correct: Sequence[bool], bins: int = BINS) -> float:
    """The mean distance of accuracy and confidence over bins of equal width, weighted by rows (C. Guo et al., ICML 2017, equation
    3). A bin has its upper bound, not its lower one.

    Args:
        confidence: the probability of each predicted label, from 0 to 1; at least one.
    """
    probabilities, correct = np.asarray(confidence, np.float64), np.asarray(is_correct, np.float64)
    index = np.clip(np.ceil(probabilities * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - probabilities, minlength=bins)
    return float(np.abs(gaps).sum() / len(probabilities))


def highest_probability(logits: Sequence[float]) -> float | None:
    """The softmax probability of the highest logit; None if a logit is no finite number."""
    values = np.asarray(logits, np.float64)
    return float(1 / np.exp(values - values.max()).sum()) if np.isfinite(values).all() else None
