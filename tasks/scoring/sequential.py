"""Is a canary better or worse than the champion? A test on ratings that may be looked at after every one of them.

    evidence = weigh(values, in_canary, share=0.1)
    evidence.benefit >= 1 / level                                # shown to be better
    low, high = difference_bounds(values, in_canary, share=0.1, level=0.05)

A unit (a conversation) is answered by the canary with probability `share`, drawn independently of everything before. A rated unit
with the value Y in [0, 1] counts

    Z = (Y - m) (A / share - (1 - A) / (1 - share)),

where A is 1 for the canary and m the mean of all earlier values. Where both models get the same ratings, E[Z | past] = 0, whatever
users, questions and the rate of ratings do over time, as A depends on the draw alone. So products of 1 + L Z (for a benefit) and of
1 - L Z (for harm), averaged over several L, are e-processes: with probability 1 - a they never reach 1 / a (Ville's inequality),
however often one looks. Sources: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (JRSS B 2024);
Ramdas et al., Game-theoretic statistics and safe anytime-valid inference (Statistical Science 2023).

Where users rate the canary's answers at another rate than the champion's, the difference is that of (Y - m) over all units, with 0
for an unrated one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

BETS = np.geomspace(0.01, 1.0, 12)
"""Values of L, as parts of the largest; small ones find small differences after many ratings."""
LARGEST_FACTOR = 0.5
"""The greatest L max|Z|: a single rating changes an e-value by a factor of 0.5 to 1.5."""
STEPS = 200
"""Differences between -1 and 1 are tested in steps of 2 / STEPS for the bounds."""


@dataclass(frozen=True)
class Evidence:
    """E-values after some ratings: the greatest up to then, which Ville's inequality is about."""

    ratings: int
    of_canary: int
    benefit: float
    harm: float
    difference: float
    """Estimated mean of canary minus champion; NaN without ratings. Unbiased at a number of ratings that was fixed before."""


def weigh(
    values: Sequence[float] | Numbers, in_canary: Sequence[bool] | npt.NDArray[np.bool_], share: float
) -> Evidence:
    """The evidence of ratings, in the order in which they were settled.

    Args:
        values: of each rated unit, in [0, 1]. Shape: [units].
        in_canary: whether the canary answered it. Shape: [units].
        share: the probability of that, between 0 and 1.

    Raises:
        ValueError: a value or the share is out of its range, or the lengths differ.
    """
    scores = centred_scores(values, in_canary, share)
    benefit, harm = (log_e_values(sign * scores, share) for sign in (1.0, -1.0))
    return Evidence(
        ratings=len(scores),
        of_canary=int(np.sum(in_canary)),
        benefit=float(np.exp(min(benefit.max(initial=0.0), 700.0))),
        harm=float(np.exp(min(harm.max(initial=0.0), 700.0))),
        difference=float(scores.mean()) if len(scores) else float("nan"),
    )


def difference_bounds(
    values: Sequence[float] | Numbers, in_canary: Sequence[bool] | npt.NDArray[np.bool_], share: float, level: float
) -> tuple[float, float]:
    """Bounds of the mean of canary minus champion that hold with probability 1 - level at every number of ratings at once.

    A confidence sequence: the differences that the tests above, shifted by the difference, do not reject at half of the level each.
    """
    scores = centred_scores(values, in_canary, share)
    differences = np.linspace(-1.0, 1.0, STEPS + 1)
    threshold = np.log(2 / level)
    low, high = -1.0, 1.0
    if len(scores):
        above = np.array([log_e_values(scores - each, share)[-1] < threshold for each in differences])
        below = np.array([log_e_values(each - scores, share)[-1] < threshold for each in differences])
        kept = np.flatnonzero(above & below)
        first, last = (
            (kept[0], kept[-1]) if len(kept) else (STEPS, 0)
        )  # none is kept with a probability below the level
        low, high = float(differences[max(first - 1, 0)]), float(differences[min(last + 1, STEPS)])
    return low, high


def centred_scores(
    values: Sequence[float] | Numbers, in_canary: Sequence[bool] | npt.NDArray[np.bool_], share: float
) -> Numbers:
    """Z of each unit. Shape: [units]."""
    numbers, arms = np.asarray(values, np.float64), np.asarray(in_canary, bool)
    if numbers.shape != arms.shape or numbers.ndim != 1:
        raise ValueError("values and in_canary must be of one length")
    if not 0 < share < 1 or not np.all((numbers >= 0) & (numbers <= 1)):
        raise ValueError("values must be between 0 and 1, and the share inside of that range")
    counts = np.arange(1, len(numbers) + 1)
    means = (0.5 + np.cumsum(numbers) - numbers) / counts  # of the earlier values and one of 0.5
    return (numbers - means) * np.where(arms, 1 / share, -1 / (1 - share))


def log_e_values(scores: Numbers, share: float) -> Numbers:
    """The logarithm of the e-process for a mean of more than 0 after each score. Shape: [units]."""
    bets = BETS * LARGEST_FACTOR * min(share, 1 - share)
    logs = np.cumsum(np.log1p(scores[:, None] * bets), axis=0)
    greatest = logs.max(axis=1, keepdims=True)
    mixed: Numbers = greatest[:, 0] + np.log(np.exp(logs - greatest).mean(axis=1))
    return mixed
