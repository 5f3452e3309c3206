"""Form `labels`: texts with one label each, for a classification head. Every row is an example, whatever its length.

The text is the row's history, instruction and input, without templates. data/rendered/labels holds labels.json, the labels in the
head's order: those of the training rows, and those of the champion that the training starts from; and commonest.json, the commonest
label of the training rows per family. Labels that are equal in evaluation (`Positive`, `positive `) are one label, in the spelling
of the champion, else in that of most training rows.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks import paths
from tasks.base.heads import text_ids
from tasks.base.load import labels_of
from tasks.prompts.label_text import label_text
from tasks.render.forms.forms import FIXED, Material, Row, write_test_rows
from tasks.render.packing.arrays import ArrayWriter, FlatExamples, Piece, flatten
from tasks.render.row_store import Rows
from tasks.runtime.files import read_json, write_json
from tasks.scoring.answer_text import normalise_answer
from tasks.scoring.metrics import METRICS
from tasks.state.training_start import start_folder

FOLDER = paths.RENDERED / "labels"
LABELS = FOLDER / "labels.json"
COMMONEST = FOLDER / "commonest.json"


@dataclass(frozen=True)
class Labelled:
    row: Row
    text: str
    ids: list[int]
    label: str


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts. Validation rows with a label that no training row has are dropped as
    `unknown_label`."""
    number_of: dict[str, int] = {}
    numbers = array("i")
    by_family: Counter[tuple[str, str]] = Counter()
    known_labels = None if split == "train" else set(map(normalise_answer, read_json(LABELS)))

    def make(portion: list[Row]) -> tuple[FlatExamples, list[tuple[str, str]]]:
        labelled = labelled_rows(portion, material)
        kept = [row for row in labelled if known_labels is None or normalise_answer(row.label) in known_labels]
        for row in labelled if len(kept) < len(labelled) else ():
            if known_labels is not None and normalise_answer(row.label) not in known_labels:
                material.drop(row.row["row_id"], "unknown_label")
        pieces = [Piece(e.row["row_id"], np.array(e.ids, np.int32), np.zeros(len(e.ids), np.uint8)) for e in kept]
        return flatten(pieces), [(row.row["family"], row.label) for row in kept]

    with ArrayWriter(FOLDER / split) as gathered:
        for examples, labels in material.map_rows(rows, make):
            gathered.add(examples)
            numbers.extend(number_of.setdefault(label, len(number_of)) for _, label in labels)
            by_family.update(labels)
        counts = gathered.write(None)
    if known_labels is None:
        write_json(LABELS, _classes(by_family))
    label_indices = _LabelIndices(read_json(LABELS))
    if known_labels is None:
        write_json(COMMONEST, _commonest(by_family, label_indices))
    index_of = np.array([label_indices.of(label) for label in number_of], np.int32)
    np.save(FOLDER / split / "labels.npy", index_of[np.frombuffer(numbers, np.int32)])
    return counts


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, one row per text. A row whose label no training row has is kept: every model gets it wrong, as in
    use."""

    def make(portion: list[Row]) -> list[Row]:
        return [_test_row(row, material) for row in labelled_rows(portion, material)]

    return write_test_rows(rows, material, make)


def _test_row(labelled: Labelled, material: Material) -> dict[str, Any]:
    row = {name: labelled.row[name] for name in FIXED}
    kind = material.families[labelled.row["family"]].kind
    shown = {"prompt": labelled.text, "prompt_ids": labelled.ids, "target": labelled.label}
    texts = {name: labelled.row[name] for name in ("instruction", "input")}
    return {**row, "kind": kind, **shown, **texts, "template": "", "before": "", "after": ""}


def labelled_rows(rows: list[Row], material: Material) -> list[Labelled]:
    """The rows with a text and a label; dropped rows are counted."""
    kept = []
    for row in rows:
        text, label = label_text(row), row["output"].strip()
        if not METRICS[material.families[row["family"]].kind].is_classification:
            material.drop(row["row_id"], "not_a_classification")
        elif not text or not label:
            material.drop(row["row_id"], "empty_input" if label else "empty_answer")
        else:
            kept.append((row, text, label))
    encoded = text_ids(material.tokenizer, [text for _, text, _ in kept], material.settings.max_length_tokens)
    material.counts["cut"] += sum(was_cut for _, was_cut in encoded)
    return [Labelled(row, text, ids, label) for (row, text, label), (ids, _) in zip(kept, encoded, strict=True)]


def _classes(by_family: Counter[tuple[str, str]]) -> list[str]:
    """The labels of the head, sorted: one per class, whatever the spelling of its rows."""
    folder = start_folder()  # of the champion that the training starts from: its head keeps labels without new rows
    before = (labels_of(folder) if folder is not None else None) or ()
    classes = {normalise_answer(label): label for label in before}
    spellings: Counter[str] = Counter()
    for (_, label), count in by_family.items():
        spellings[label] += count
    for label, _ in sorted(spellings.items(), key=lambda item: (-item[1], item[0])):
        classes.setdefault(normalise_answer(label), label)
    return sorted({*before, *classes.values()})


class _LabelIndices:
    """The index of a label in the head: by its own spelling, else by another spelling of the same class."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._exact = {name: index for index, name in enumerate(names)}
        self._of_class = {normalise_answer(name): index for index, name in reversed(list(enumerate(names)))}

    def of(self, label: str) -> int:
        index = self._exact.get(label)
        return self._of_class[normalise_answer(label)] if index is None else index


def _commonest(by_family: Counter[tuple[str, str]], label_indices: _LabelIndices) -> dict[str, str]:
    """Family → its commonest label; of equally common ones, the first by name."""
    counts: dict[str, Counter[str]] = {}
    for (family, label), count in by_family.items():
        counts.setdefault(family, Counter())[label_indices.names[label_indices.of(label)]] += count
    return {family: min(labels, key=lambda label: (-labels[label], label)) for family, labels in counts.items()}
