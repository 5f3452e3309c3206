"""How often ratings promote or take back a canary that is equal to the champion, and how many ratings a true difference needs.

Run: .venv/bin/python benchmarks/canary.py [--trials 2000]

    --trials N   trials of equal models; a fifth of them with a true difference

A share of the conversations is answered by the canary. Each rating is looked at as soon as it is there: shown to be better ends
the trial with a promotion, shown to be worse with a take-back, both at a level of 5 %. Equal models, with three kinds of ratings
(good or not; five stars; good or not, of users whose satisfaction drifts), and with users who rate the canary's answers twice as
often (the last one has no target: a rate of ratings is no quality). Targets: equal models are promoted in at most 5 % of the
trials, and taken back in at most 5 %. For true differences the median number of ratings until the decision is printed.
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

from tasks.scoring.sequential import centred_scores, log_e_values  # noqa: E402

Ratings = tuple[np.ndarray, np.ndarray]
"""The values of rated conversations, and whether the canary answered them. Shapes: [ratings]."""
Simulate = Callable[[np.random.Generator, int, float], Ratings]

LEVEL = 0.05
HORIZONS = {0.1: 6000, 0.5: 3000}
"""Share of the canary → ratings after which a trial ends without a decision."""
GOOD = 0.7
STARS = np.array([0.05, 0.05, 0.1, 0.3, 0.5])
DIFFERENCES = (-0.3, -0.1, -0.05, 0.1)


def main() -> None:
    trials = parse().trials
    failed = 0
    print(f"{'ratings':<30}{'share':>7}{'promoted':>11}{'taken back':>12}{'median ratings':>16}{'seconds':>10}")
    for share, horizon in HORIZONS.items():
        for name, (simulate, has_target) in EQUAL.items():
            promoted, back, _, seconds = run(simulate, trials, horizon, share)
            failed += has_target and max(promoted, back) > LEVEL
            print(f"{name:<30}{share:>7}{promoted:>11.2%}{back:>12.2%}{'':>16}{seconds:>10.0f}", flush=True)
        for difference in DIFFERENCES:
            promoted, back, median, seconds = run(differing(difference), max(1, trials // 5), horizon, share)
            name = f"{100 * difference:+.0f} points"
            number = f"{median:,.0f}" if np.isfinite(median) else f"over {horizon:,}"
            print(f"{name:<30}{share:>7}{promoted:>11.1%}{back:>12.1%}{number:>16}{seconds:>10.0f}", flush=True)
    print("targets met" if not failed else f"{failed} rows miss the target of at most {LEVEL:.0%}")
    sys.exit(1 if failed else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    return parser.parse_args()


def run(simulate: Simulate, trials: int, horizon: int, share: float) -> tuple[float, float, float, float]:
    """Shares of trials that promote and that take back, the median number of ratings until the decision, and seconds."""
    start = time.perf_counter()
    decisions = [decide(*simulate(np.random.default_rng(seed), horizon, share), share) for seed in range(trials)]
    promoted = sum(which == "promoted" for which, _ in decisions) / trials
    back = sum(which == "taken back" for which, _ in decisions) / trials
    return promoted, back, float(np.median([at for _, at in decisions])), time.perf_counter() - start


def decide(values: np.ndarray, in_canary: np.ndarray, share: float) -> tuple[str, float]:
    """The first decision, and the number of ratings until then."""
    scores = centred_scores(values, in_canary, share)
    crossings = {
        name: np.argmax(reached)
        if (reached := log_e_values(sign * scores, share) >= np.log(1 / LEVEL)).any()
        else np.inf
        for name, sign in (("promoted", 1.0), ("taken back", -1.0))
    }
    name = min(crossings, key=lambda each: crossings[each])
    return (name, float(crossings[name]) + 1) if np.isfinite(crossings[name]) else ("undecided", np.inf)


def differing(difference: float) -> Simulate:
    def simulate(chance: np.random.Generator, count: int, share: float) -> Ratings:
        arms = chance.random(count) < share
        return (chance.random(count) < np.where(arms, GOOD + difference, GOOD)).astype(float), arms

    return simulate


def stars(chance: np.random.Generator, count: int, share: float) -> Ratings:
    return chance.choice(5, count, p=STARS) / 4, chance.random(count) < share


def drifting(chance: np.random.Generator, count: int, share: float) -> Ratings:
    rates = 0.6 + 0.35 * np.sin(np.linspace(0, 20, count))
    return (chance.random(count) < rates).astype(float), chance.random(count) < share


def more_ratings_of_the_canary(chance: np.random.Generator, count: int, share: float) -> Ratings:
    """Of three times as many conversations, those of the canary are rated twice as often."""
    arms = chance.random(3 * count) < share
    is_rated = chance.random(3 * count) < np.where(arms, 0.6, 0.3)
    values = (chance.random(3 * count) < GOOD).astype(float)
    return values[is_rated][:count], arms[is_rated][:count]


EQUAL: dict[str, tuple[Simulate, bool]] = {
    "equal, good or not": (differing(0.0), True),
    "equal, five stars": (stars, True),
    "equal, drifting users": (drifting, True),
    "equal, rated twice as often": (more_ratings_of_the_canary, False),
}


if __name__ == "__main__":
    main()
