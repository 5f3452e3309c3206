"""The answers of a server against those of the evaluation: agreement of tokens, and the gate's test of "not worse". Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from tasks.scoring.non_inferiority import is_not_worse, stream_seed
from tasks.scoring.read_answer import complete_answer
from tasks.scoring.score import score_answer
from tasks.scoring.statistics import Interval, difference_interval
from tasks.serve.served_path.rows import CheckRow

Tokenize = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Policy:
    """What a server's answers must satisfy: the gate's settings, and those of the check."""

    margin: float = 0.05
    margins: Mapping[str, float] = field(default_factory=dict)
    """Of families with one of their own."""
    confidence: float = 0.95
    samples: int = 5000
    seed: int = 17
    min_rows: int = 20
    least_agreement: float = 0.5
    most_rows: int = 2000


@dataclass(frozen=True)
class ServerAnswer:
    text: str
    is_cut: bool = False
    rejection: str = ""
    """Why the server refused the prompt."""


@dataclass(frozen=True)
class FamilyResult:
    family: str
    rows: int
    difference: float
    """Mean score by the server minus that of the evaluation."""
    low: float
    high: float
    margin: float
    is_not_worse: bool | None
    """None: too few rows to count."""


@dataclass(frozen=True)
class Comparison:
    rows: int
    equal: int
    """Answers that are the same text."""
    agreement: float
    """Mean share of an answer's tokens before its first difference."""
    rejected: int
    families: tuple[FamilyResult, ...]
    reason: str
    """Why the server must not serve the version; "": it may."""


def compare(
    rows: Sequence[CheckRow], answers: Sequence[ServerAnswer], tokenize: Tokenize, policy: Policy
) -> Comparison:
    shares = np.array([_agreement(tokenize, row, answer) for row, answer in zip(rows, answers, strict=True)])
    reference = np.array([_score(row, row.prediction, row.is_cut) for row in rows])
    served = np.array([_score(row, answer.text, answer.is_cut) for row, answer in zip(rows, answers, strict=True)])
    names = np.array([row.family for row in rows])
    families = [
        _family(name, reference[names == name], served[names == name], policy) for name in sorted(set(names.tolist()))
    ]
    if all(result.is_not_worse is None for result in families):  # each has few rows: all of them together
        families.append(_family("all families", reference, served, policy))
    equal = sum(row.prediction == answer.text for row, answer in zip(rows, answers, strict=True))
    rejections = [answer.rejection for answer in answers if answer.rejection]
    agreement = float(shares.mean())
    reason = _reason(families, agreement, policy)
    if reason and rejections:
        reason += f"; it refused {len(rejections)} prompts ({rejections[0][:200]})"
    return Comparison(len(rows), equal, agreement, len(rejections), tuple(families), reason)


def _reason(families: Sequence[FamilyResult], agreement: float, policy: Policy) -> str:
    if agreement < policy.least_agreement:
        return (
            f"only {agreement:.0%} of the tokens of an answer agree with the evaluation, on average "
            f"(serve.engine.check.least_agreement: {policy.least_agreement:g})"
        )
    if worse := [each for each in families if each.is_not_worse is False]:
        shown = [f"{e.family}: {e.difference:+.3f} [{e.low:+.3f}, {e.high:+.3f}], margin {e.margin:g}" for e in worse]
        return f"its answers are not shown to be not worse than in the evaluation ({'; '.join(shown)})"
    if all(each.is_not_worse is None for each in families):
        return f"{families[-1].rows} test rows are too few to compare its answers (gate.min_rows: {policy.min_rows})"
    return ""


def _family(name: str, reference: np.ndarray, served: np.ndarray, policy: Policy) -> FamilyResult:  # type: ignore[type-arg]
    margin = policy.margins.get(name, policy.margin)
    interval: Interval = difference_interval(
        reference,
        served,
        confidence=policy.confidence,
        samples=policy.samples,
        seed=stream_seed(policy.seed, f"served/{name}"),
    )
    passed = is_not_worse(interval, margin) if len(reference) >= policy.min_rows else None
    return FamilyResult(name, len(reference), float(np.mean(served - reference)), *interval, margin, passed)


def _score(row: CheckRow, answer: str, is_cut: bool) -> float:
    complete = complete_answer(answer, row.opens_thought)
    is_cut = is_cut and not row.is_target_too_long
    return score_answer(row.kind, complete, row.target, row.frame, question=row.question, is_cut=is_cut).score


def _agreement(tokenize: Tokenize, row: CheckRow, answer: ServerAnswer) -> float:
    if row.prediction == answer.text:
        return 1.0
    before, now = tokenize(row.prediction), tokenize(answer.text)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False)))
    return same / max(len(before), len(now), 1)
