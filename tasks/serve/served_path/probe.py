"""Whether a server computes with the weights of a version: its log probabilities against those of the embedded engine. Pure.

The server generates some tokens with the version. The embedded engine computes the log probabilities of these same tokens, with the
version and with its base alone, so that the comparison does not depend on which of two near ties was taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 0.15
"""Greatest mean difference of a log probability, in nats: three times what bf16 makes. Decision 44 has the measurements."""
EXACT_TOLERANCE = 0.01
"""The same where the server computes in fp32."""
OF_THE_EFFECT = 0.5
"""The difference is also at most this share of what the adapter changes: else the version and its base are not distinguished."""

Finding = Literal["", "ignores", "same", "base", "other", "weak"]
REASONS: dict[Finding, str] = {
    "ignores": "the server ignores the adapter: its log probabilities with and without it are equal",
    "same": "the server answers as another adapter that it has loaded",
    "base": "the server answers as the base, without the adapter",
    "other": "the server computes with other weights, such as an earlier adapter",
    "weak": "the adapter changes too little to distinguish the version from its base on this server",
}


@dataclass(frozen=True)
class ProbedRow:
    """
    Args:
        served: log probabilities by the server of the tokens that it generated.
        expected: of the same tokens, by the embedded engine.
        of_base: by the embedded engine without the adapter; None: the version has full weights.
        first_with: the server's most probable first tokens → their log probabilities.
        first_without: the same for the base; None: the version has full weights.
        first_of_others: the same for each other adapter in the server, which has other weights.
    """

    served: Sequence[float]
    expected: Sequence[float]
    of_base: Sequence[float] | None = None
    first_with: Mapping[int, float] | None = None
    first_without: Mapping[int, float] | None = None
    first_of_others: Sequence[Mapping[int, float]] = ()


@dataclass(frozen=True)
class Probe:
    finding: Finding
    """"": the server computes with the version."""
    tokens: int
    distance: float
    """Mean difference of the server's log probabilities from those of the embedded engine."""
    effect: float | None
    """Mean difference that the adapter makes, by the embedded engine; None: full weights."""

    @property
    def reason(self) -> str:
        if self.finding == "":
            return ""
        numbers = f"(difference {self.distance:.3f}"
        numbers += ")" if self.effect is None else f", effect of the adapter {self.effect:.3f})"
        return f"{REASONS[self.finding]} {numbers}"


def tolerance_of(precision: str) -> float:
    return EXACT_TOLERANCE if precision == "fp32" else TOLERANCE


def judge_probe(rows: Sequence[ProbedRow], tolerance: float = TOLERANCE) -> Probe:
    """What the log probabilities show. Two sets of weights never give bit for bit the same ones."""
    tokens = sum(len(row.served) for row in rows)
    distance = _distance([(row.served, row.expected) for row in rows])
    of_base = [row.of_base for row in rows if row.of_base is not None]
    if len(of_base) < len(rows):
        return Probe("" if distance <= tolerance else "other", tokens, distance, None)
    effect = _distance([(row.expected, base) for row, base in zip(rows, of_base, strict=True)])
    from_base = _distance([(row.served, base) for row, base in zip(rows, of_base, strict=True)])
    finding: Finding = ""
    if all(row.first_with == row.first_without for row in rows):
        finding = "ignores"
    elif any(
        all(row.first_with == row.first_of_others[place] for row in rows)
        for place in range(len(rows[0].first_of_others))
    ):
        finding = "same"
    elif from_base < distance and from_base <= tolerance:
        finding = "base"
    elif distance > tolerance:
        finding = "other"
    elif distance > OF_THE_EFFECT * effect:
        finding = "weak" if effect <= 2 * tolerance else "other"
    return Probe(finding, tokens, distance, effect)


def _distance(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """The mean absolute difference; infinite without a token, or where a probability is 0 for one side alone."""
    differences = [
        0.0 if one == other else abs(one - other)
        for first, second in pairs
        for one, other in zip(first, second, strict=True)
    ]
    mean = sum(differences) / len(differences) if differences else float("inf")
    return mean if mean == mean else float("inf")
