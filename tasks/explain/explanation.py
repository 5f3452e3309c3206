"""An explanation: the parts of an input with their shares of one or several outputs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.explain.gradients import Gradients
from tasks.explain.occlusion import Changes, shown_parts
from tasks.explain.parts import Part
from tasks.explain.pieces import Piece, in_words


@dataclass(frozen=True)
class Span:
    """A piece of a text. Positive: it raises the output."""

    text: str
    value: float | None = None
    """None: not measured, such as punctuation between words."""
    by_piece: tuple[float, ...] = ()
    """The share of each piece of the answer; empty for a head."""


@dataclass(frozen=True)
class Attribution:
    """The shares of one output."""

    title: str
    fields: dict[str, list[Span]]
    """Field → its whole text in spans."""
    facts: dict[str, str]
    larger: list[Span] = field(default_factory=list)
    """Whole fields and sentences, which overlap with the spans."""
    warning: str = ""

    def top(self, count: int) -> list[Span]:
        """The spans with the largest absolute value, the first in the text of equal ones."""
        spans = [span for texts in self.fields.values() for span in texts if span.value]
        return sorted(spans, key=lambda span: -abs(span.value or 0.0))[:count]


@dataclass(frozen=True)
class AnswerPiece:
    text: str
    probability: float
    tokens: tuple[int, ...]
    is_end: bool = False
    """It is the end token."""


@dataclass(frozen=True)
class Explanation:
    subject: str
    """The row's id, or `prompt` and a digest."""
    model: str
    """Such as `champion v2`."""
    facts: dict[str, str]
    """The model's digest, base, and so on."""
    method: str
    settings: dict[str, str]
    output: str
    """The predicted label, the answer, or the rewards."""
    target: str
    """Empty for a prompt."""
    attributions: list[Attribution]
    answer: list[AnswerPiece] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def of_gradients(
    title: str, name: str, pieces: Sequence[Piece], gradients: Gradients, fixed: frozenset[int], ids: Sequence[int]
) -> Attribution:
    """The shares of the words of a text. `fixed` tokens are equal in the baseline, and have none."""
    spans = [
        Span(
            piece.text,
            None
            if all(ids[index] in fixed for index in piece.tokens)
            else sum(gradients.values[index] for index in piece.tokens),
        )
        for piece in in_words(pieces)
    ]
    facts = {
        "output": f"{gradients.output:.4f}",
        "output of the baseline": f"{gradients.baseline:.4f}",
        "difference": f"{gradients.output - gradients.baseline:+.4f}",
        "sum of the shares": f"{sum(gradients.values):+.4f}",
        "convergence delta": f"{gradients.error:+.2g}",
        "steps": str(gradients.steps),
    }
    warning = "" if gradients.is_converged else (
        f"The integral has not converged after {gradients.steps} steps: the shares are wrong by {gradients.error:+.3g} in total."
    )  # fmt: skip
    return Attribution(title, {name: spans}, facts, warning=warning)


def of_changes(
    title: str,
    texts: Mapping[str, str],
    fields: Sequence[Part],
    changes: Changes,
    answer: Sequence[AnswerPiece],
    facts: dict[str, str],
) -> Attribution:
    """The shares of the parts of the user's texts in an answer."""

    def span(part: Part, text: str) -> Span:
        values = changes[part]
        by_piece = tuple(sum(values[index] for index in piece.tokens) for piece in answer)
        return Span(text, sum(values), by_piece)

    smallest = shown_parts(fields, changes)
    spans: dict[str, list[Span]] = {}
    for part in fields:
        text, position, spans[part.name] = texts[part.name], 0, []
        for shown in (each for each in smallest if each.name == part.name):
            if shown.start > position:
                spans[part.name].append(Span(text[position : shown.start]))
            spans[part.name].append(span(shown, shown.text(texts)))
            position = shown.end
        if position < len(text):
            spans[part.name].append(Span(text[position:]))
    larger = [span(part, part.text(texts)) for part in changes if part not in smallest]
    return Attribution(title, spans, facts, larger)
