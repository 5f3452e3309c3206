"""People's preferences, with which the judge must agree before it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path

from tasks.evaluate.judge.answer import WINNERS
from tasks.evaluate.judge.pair import Pair, Winner
from tasks.records.segmentation import language_of
from tasks.runtime.json_lines import read_log
from tasks.scoring.agreement import agreement_table, cohen_kappa, kappa_interval
from tasks.scoring.statistics import Interval

OPTIONAL = ("family", "row_id", "trace")
"""Fields that may be null."""


@dataclass(frozen=True)
class Preference:
    question: str
    answer_a: str
    answer_b: str
    preferred: Winner
    family: str | None = None
    """The family whose rubric applies; None: the rubric `default`."""
    target: str = ""
    row_id: str | None = None
    """The row of the question: its erasure removes the preference."""
    trace: str | None = None
    """The MLflow trace that it was imported from."""

    def pair(self, rubric: str) -> Pair:
        return Pair(rubric, language_of(self.question), self.question, self.target, self.answer_a, self.answer_b)


@dataclass(frozen=True)
class Agreement:
    """How the judge, by one rubric, agrees with people."""

    rows: int
    kappa: float
    interval: Interval


def read_preferences(path: Path) -> list[Preference] | None:
    """The preferences; None if there is no file.

    Raises:
        DataError: a line is not a preference.
    """
    if not path.is_file():
        return None
    fix = "Fix the line: {question, answer_a, answer_b, preferred: A, B or tie}, and optionally family and target"
    return read_log(path, _parse, "a preference", fix)


def measure_agreement(
    people: Sequence[Winner], judge: Sequence[Winner], *, confidence: float, samples: int, seed: int | list[int]
) -> Agreement:
    table = agreement_table(people, judge, WINNERS)
    interval = kappa_interval(table, confidence=confidence, samples=samples, seed=seed)
    return Agreement(len(people), cohen_kappa(table), interval)


def _parse(**fields: str) -> Preference:
    known = {field.name: field.default is MISSING for field in dataclass_fields(Preference)}
    if missing := [name for name, is_required in known.items() if is_required and name not in fields]:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f"unknown: {', '.join(unknown)}")
    preference = Preference(**fields)  # type: ignore[arg-type]
    texts = [value for name, value in fields.items() if not (name in OPTIONAL and value is None)]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("every field is a text")
    if preference.preferred not in WINNERS:
        raise ValueError(f"`preferred` is {preference.preferred!r}, not A, B or tie")
    return preference
