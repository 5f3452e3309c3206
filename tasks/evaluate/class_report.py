"""Classification metrics by class. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.scoring.answer_text import normalise_answer

OTHER = "(other)"
"""The class of an answer that is not a label."""


@dataclass(frozen=True)
class ClassReport:
    """Classification metrics by class."""

    labels: list[str]
    """The labels of the test rows, in the targets' spelling, sorted."""
    precision: list[float]
    recall: list[float]
    f1: list[float]
    rows: list[int]
    confusion: list[list[int]]
    """Rows: labels of the targets. Columns: predicted labels, and last the answers that are not a label."""

    @property
    def weighted_f1(self) -> float:
        """The mean of F1 over the labels, weighted by their rows."""
        total = sum(self.rows)
        return sum(f1 * rows for f1, rows in zip(self.f1, self.rows, strict=True)) / total if total else 0.0

    @property
    def macro_f1(self) -> float:
        """The unweighted mean of F1 over the labels."""
        return sum(self.f1) / len(self.f1) if self.f1 else 0.0


def report_classes(answers: Sequence[str], targets: Sequence[str]) -> ClassReport:
    """Precision, recall and F1 by label, and the confusion matrix. Labels that differ only in case or white space are one."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    spelling: dict[str, str] = {}
    for target in targets:
        spelling.setdefault(normalise_answer(target), target)
    keys = sorted(spelling)
    position = {key: number for number, key in enumerate(keys)}
    truth = [position[normalise_answer(target)] for target in targets]
    predicted = [position.get(normalise_answer(answer), len(keys)) for answer in answers]
    labels = list(range(len(keys)))
    if not labels:
        return ClassReport([], [], [], [], [], [])
    precision, recall, f1, rows = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0.0)
    confusion = confusion_matrix(truth, predicted, labels=[*labels, len(keys)])[:-1]
    return ClassReport(
        [spelling[key] for key in keys],
        [float(x) for x in precision],
        [float(x) for x in recall],
        [float(x) for x in f1],
        [int(x) for x in rows],
        [[int(x) for x in line] for line in confusion],
    )
