"""The report of a classification, class by class. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.scoring.answer_text import plain

OTHER = "(other)"
"""The class of an answer that is no label."""


@dataclass(frozen=True)
class ClassReport:
    """A classification, class by class."""

    labels: list[str]
    """The labels of the test rows, as the targets spell them, sorted."""
    precision: list[float]
    recall: list[float]
    f1: list[float]
    rows: list[int]
    confusion: list[list[int]]
    """Rows: the target's label. Columns: the answer's, and last the answers that are no label."""

    @property
    def macro_f1(self) -> float:
        """The mean F1 over the labels: a rare label counts as much as a frequent one."""
        return sum(self.f1) / len(self.f1) if self.f1 else 0.0


def report_classes(answers: Sequence[str], targets: Sequence[str]) -> ClassReport:
    """Precision, recall and F1 a label, and the confusion matrix. Labels that differ only in spelling are one."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    spelled: dict[str, str] = {}
    for target in targets:
        spelled.setdefault(plain(target), target)
    keys = sorted(spelled)
    place = {key: number for number, key in enumerate(keys)}
    truth = [place[plain(target)] for target in targets]
    said = [place.get(plain(answer), len(keys)) for answer in answers]
    labels = list(range(len(keys)))
    if not labels:
        return ClassReport([], [], [], [], [], [])
    precision, recall, f1, rows = precision_recall_fscore_support(truth, said, labels=labels, zero_division=0.0)
    confusion = confusion_matrix(truth, said, labels=[*labels, len(keys)])[:-1]
    return ClassReport(
        [spelled[key] for key in keys],
        [float(x) for x in precision],
        [float(x) for x in recall],
        [float(x) for x in f1],
        [int(x) for x in rows],
        [[int(x) for x in line] for line in confusion],
    )
