"""The entry `judge` of metrics.json. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tasks.evaluate.judge.judge import Cost
from tasks.evaluate.judge.pair import PairVerdict, Winner
from tasks.evaluate.judge.preferences import Agreement
from tasks.evaluate.judge.rows import METHODS, SCORES, Comparison
from tasks.scoring.statistics import rounded


def describe_family(
    comparisons: Sequence[Comparison], winners: Sequence[Winner], verdicts: Sequence[PairVerdict], cost: Cost
) -> dict[str, Any]:
    """The numbers of a family: won, tied and lost by the candidate, how each was decided, and what the verdicts took."""
    count, methods = Counter(winners), Counter(each.method for each in comparisons)
    return {
        "rows": len(comparisons),
        "win": count["A"],
        "tie": count["tie"],
        "loss": count["B"],
        "score": rounded(sum(SCORES[winner] for winner in winners) / len(winners)),
        **{method: methods[method] for method in METHODS},
        **describe_verdicts(verdicts, cost),
    }


def describe_agreement(agreement: Agreement, verdicts: Sequence[PairVerdict], cost: Cost) -> dict[str, Any]:
    """The numbers of a rubric: its agreement with people."""
    low, high = agreement.interval
    return {
        "rows": agreement.rows,
        "kappa": rounded(agreement.kappa),
        "interval": [rounded(low), rounded(high)],
        **describe_verdicts(verdicts, cost),
    }


def describe_verdicts(verdicts: Sequence[PairVerdict], cost: Cost) -> dict[str, Any]:
    """Of the judged pairs: position flips, and answers that are no verdict. Of all: those that the endpoint refused."""
    judged = [verdict for verdict in verdicts if verdict.is_judged]
    flips = sum(verdict.is_flip for verdict in judged)
    return {
        "flips": flips,
        "flip_share": rounded(flips / len(judged)) if judged else None,
        "unparsed": sum(verdict.unparsed for verdict in judged),
        "refused": sum(verdict.is_refused for verdict in verdicts),
        "calls": cost.calls,
        "prompt_tokens": cost.prompt_tokens,
        "completion_tokens": cost.completion_tokens,
    }
