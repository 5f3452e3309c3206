"""How often the gate promotes an equal model, and a model with a true gain: its own policy function on simulated scores.

Run: .venv/bin/python benchmarks/gate.py [--trials 2000]

    --trials N   trials of equal models at one look, and of 20 looks on the same rows; a fifth of them with a true gain

Scores are right/wrong, like token F1 (heaps at 0 and 1), win/tie/loss of a pairwise judge, and mixed (one family right/wrong, one
like token F1). Equal models: rows differ in difficulty, and both answer them independently. Targets: equal models are promoted in
at most 5 % of the trials, at one look of 1,000 rows and over 20 looks on one epoch of 200 rows; a true gain of 3 points on 1,000
rows is promoted in at least 80 %, if right/wrong answers differ on 8 % of the rows (other shares are printed). Equal models are
tested by `better` alone (the margin is 1), gains by the whole policy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
from measuring import REPOSITORY, quieten

quieten()
sys.path.insert(0, str(REPOSITORY))

from tasks.gate.pairing import PairedScores  # noqa: E402
from tasks.gate.policy import Verdict, decide  # noqa: E402
from tasks.gate.settings import GateSettings  # noqa: E402
from tasks.state.alpha_spending import spent_after  # noqa: E402
from tasks.state.round import Round  # noqa: E402

Scores = np.ndarray
Equal = Callable[[np.random.Generator, Scores], Scores]
"""(generator, difficulty of each row) → the scores of a model."""
Gain = Callable[[np.random.Generator, int], tuple[Scores, Scores]]
"""(generator, rows) → scores of the reference, and of a candidate that is 3 points better."""

ROWS, GAIN = 1000, 0.03
LOOKS, ROWS_OF_EPOCH = 20, 200
MOST_FALSE, LEAST_TRUE = 0.05, 0.80
DIFFERING, OTHERS = 0.08, (0.06, 0.10, 0.15)
"""The share of rows on which right/wrong answers, or a judge's preferences, differ."""


def main() -> None:
    trials = parse().trials
    gains = max(1, trials // 5)
    failed = 0
    print(f"{'scores':<14}{'one look':>12}{f'{LOOKS} looks':>12}{'+3 points':>12}{'detectable':>12}{'seconds':>10}")
    for name, (equal, gain) in KINDS.items():
        start = time.perf_counter()
        once = sum(is_promoted(equal, seed, ROWS, looks=1) for seed in range(trials)) / trials
        often = sum(is_promoted(equal, seed, ROWS_OF_EPOCH, looks=LOOKS) for seed in range(trials)) / trials
        verdicts = [judge_gain(gain, seed) for seed in range(gains)]
        gained = sum(verdict.passed for verdict in verdicts) / gains
        detectable = float(np.mean([verdict.detectable_gain for verdict in verdicts]))
        failed += once > MOST_FALSE or often > MOST_FALSE or gained < LEAST_TRUE
        seconds = time.perf_counter() - start
        print(f"{name:<14}{once:>12.2%}{often:>12.2%}{gained:>12.1%}{detectable:>12.4f}{seconds:>10.0f}", flush=True)
    for differing in OTHERS:
        passed = sum(judge_gain(right_or_wrong_gain(differing), seed).passed for seed in range(gains)) / gains
        print(f"right/wrong, answers differ on {differing:.0%} of the rows: +3 points promoted in {passed:.1%}")
    goals = f"at most {MOST_FALSE:.0%}, at most {MOST_FALSE:.0%}, at least {LEAST_TRUE:.0%}"
    print(f"targets: {goals}: {'missed' if failed else 'met'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    return parser.parse_args()


def is_promoted(draw: Equal, seed: int, rows: int, looks: int) -> bool:
    """Whether any of `looks` equal models passes; all are compared with the same champion on the same rows."""
    rng = np.random.default_rng([seed, looks])
    settings = GateSettings(margin=1.0, bootstrap_samples=500, seed=seed, slices=())
    ease = rng.beta(2, 2, rows)
    champion = draw(rng, ease)
    for look in range(looks):
        if decide(paired(champion, draw(rng, ease)), settings, Round(None, 1, look, spent_after(look))).passed:
            return True
    return False


def judge_gain(draw: Gain, seed: int) -> Verdict:
    reference, candidate = draw(np.random.default_rng([seed, 99]), ROWS)
    return decide(paired(reference, candidate), GateSettings(bootstrap_samples=500, seed=seed), Round(None, 1, 0))


def paired(reference: Scores, candidate: Scores) -> PairedScores:
    rows = len(reference)
    family = np.where(np.arange(rows) < rows // 2, "topic", "qa")
    return PairedScores(family, reference, candidate, np.full(rows, "b1"))


def right_or_wrong(rng: np.random.Generator, ease: Scores) -> Scores:
    return (rng.random(len(ease)) < ease).astype(float)


def token_f1(rng: np.random.Generator, ease: Scores) -> Scores:
    score = rng.beta(1 + 4 * ease, 5 - 4 * ease)
    return np.round(np.where(score < 0.25, 0, np.where(score > 0.8, 1, score)), 2)


def preference(rng: np.random.Generator, ease: Scores) -> Scores:
    """Of each answer, as a judge of single answers rates it: bad, fair or good."""
    return np.round(2 * rng.beta(1 + 2 * ease, 3 - 2 * ease)) / 2


def mixed(rng: np.random.Generator, ease: Scores) -> Scores:
    half = len(ease) // 2
    return np.concatenate([right_or_wrong(rng, ease[:half]), token_f1(rng, ease[half:])])


def right_or_wrong_gain(differing: float) -> Gain:
    def draw(rng: np.random.Generator, rows: int) -> tuple[Scores, Scores]:
        shares = [(differing + GAIN) / 2, (differing - GAIN) / 2, 0.6, 0.4 - differing]  # gained, lost, both, neither
        kind = rng.choice(4, rows, p=shares)
        return np.isin(kind, (1, 2)).astype(float), np.isin(kind, (0, 2)).astype(float)

    return draw


def token_f1_gain(rng: np.random.Generator, rows: int) -> tuple[Scores, Scores]:
    """Two thirds of the answers are the same; the others differ by 0.2 (standard deviation)."""
    score = rng.beta(2, 2, rows)
    reference = np.where(score < 0.2, 0, np.where(score > 0.85, 1, score))
    change = np.where(
        rng.random(rows) < 2 / 3, 0, rng.normal(3.2 * GAIN, 0.2, rows)
    )  # clipping takes a part of the gain
    return reference, (reference + change).clip(0, 1)


def preference_gain(rng: np.random.Generator, rows: int) -> tuple[Scores, Scores]:
    """A judge of pairs: the candidate's score is 1, 0.5 or 0, the reference's the rest, so a win is a gain of one point."""
    candidate = rng.choice([1.0, 0.0, 0.5], rows, p=[(DIFFERING + GAIN) / 2, (DIFFERING - GAIN) / 2, 1 - DIFFERING])
    return 1 - candidate, candidate


def mixed_gain(rng: np.random.Generator, rows: int) -> tuple[Scores, Scores]:
    halves = right_or_wrong_gain(DIFFERING)(rng, rows // 2), token_f1_gain(rng, rows - rows // 2)
    reference, candidate = (np.concatenate([half[side] for half in halves]) for side in (0, 1))
    return reference, candidate


KINDS: dict[str, tuple[Equal, Gain]] = {
    "right/wrong": (right_or_wrong, right_or_wrong_gain(DIFFERING)),
    "token F1": (token_f1, token_f1_gain),
    "win/tie/loss": (preference, preference_gain),
    "mixed": (mixed, mixed_gain),
}

if __name__ == "__main__":
    main()
