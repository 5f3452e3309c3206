"""Form `labels`: texts with a label each, as a head of labels learns them. A row is an example, whatever its length.

The text is the row's own: what was said before, its instruction and its input, without templates. data/rendered/labels holds
labels.json, the labels in the head's order: those of the training rows, and those that the champion knows that is trained on; and
commonest.json, the commonest label of the training rows a family. Labels that evaluation takes for one (`Positive`, `positive `)
are one, spelled as the champion does, else as most training rows do.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import paths
from tasks.base.heads import text_ids
from tasks.base.load import labels_of
from tasks.dataset.rendered import TEST
from tasks.render.forms.forms import FIXED, TEST_SCHEMA, Material, Row
from tasks.render.packing.arrays import Flat, Gathered, Piece, flat
from tasks.render.row_store import Rows
from tasks.runtime.files import read_json, write_json, write_tables
from tasks.scoring.answer_text import normalise_answer
from tasks.state.training_start import start_folder

KIND = "classification"
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
    """Writes the arrays of a split; returns their counts. A label that no training row has is left out of the others, and
    counted as `unknown_label`."""
    numbers: dict[str, int] = {}
    found = array("i")
    by_family: Counter[tuple[str, str]] = Counter()
    known = None if split == "train" else set(map(normalise_answer, read_json(LABELS)))

    def make(portion: list[Row]) -> tuple[Flat, list[tuple[str, str]]]:
        labelled = _labelled(portion, material)
        kept = [each for each in labelled if known is None or normalise_answer(each.label) in known]
        for each in labelled if len(kept) < len(labelled) else ():
            if known is not None and normalise_answer(each.label) not in known:
                material.drop(each.row["row_id"], "unknown_label")
        pieces = [Piece(e.row["row_id"], np.array(e.ids, np.int32), np.zeros(len(e.ids), np.uint8)) for e in kept]
        return flat(pieces), [(each.row["family"], each.label) for each in kept]

    with Gathered(FOLDER / split) as gathered:
        for examples, labels in material.made_of(rows, make):
            gathered.add(examples)
            found.extend(numbers.setdefault(label, len(numbers)) for _, label in labels)
            by_family.update(labels)
        counts = gathered.write(None)
    if known is None:
        write_json(LABELS, _classes(by_family))
    places = _Places(read_json(LABELS))
    if known is None:
        write_json(COMMONEST, _commonest(by_family, places))
    place_of = np.array([places.of(label) for label in numbers], np.int32)
    np.save(FOLDER / split / "labels.npy", place_of[np.frombuffer(found, np.int32)])
    return counts


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, a row a text. One whose label no training row has stays: every model gets it wrong, as in use."""

    def make(portion: list[Row]) -> pa.Table:
        return pa.Table.from_pylist([_test_row(each) for each in _labelled(portion, material)], TEST_SCHEMA)

    return write_tables(TEST, TEST_SCHEMA, material.made_of(rows, make))


def _test_row(labelled: Labelled) -> dict[str, Any]:
    row = {name: labelled.row[name] for name in FIXED}
    shown = {"prompt": labelled.text, "prompt_ids": labelled.ids, "target": labelled.label}
    return {**row, "kind": KIND, **shown, "template": "", "before": "", "after": ""}


def _labelled(rows: list[Row], material: Material) -> list[Labelled]:
    """The rows that have a text and a label; what is dropped is counted."""
    kept = []
    for row in rows:
        text, label = _text(row), row["output"].strip()
        if material.families[row["family"]].kind != KIND:
            material.drop(row["row_id"], "not_a_classification")
        elif not text or not label:
            material.drop(row["row_id"], "empty_input" if label else "empty_answer")
        else:
            kept.append((row, text, label))
    encoded = text_ids(material.tokenizer, [text for _, text, _ in kept], material.settings.max_length_tokens)
    material.counts["cut"] += sum(was_cut for _, was_cut in encoded)
    return [Labelled(row, text, ids, label) for (row, text, label), (ids, _) in zip(kept, encoded, strict=True)]


def _text(row: Row) -> str:
    turns = [] if row["history"] == "[]" else [text for _, text in json.loads(row["history"])]
    parts = (part.strip() for part in (*turns, row["instruction"], row["input"]))
    return "\n\n".join(part for part in parts if part)


def _labels_known_before() -> tuple[str, ...]:
    """Those of the champion that is trained on: it may not forget one of which there is no new row."""
    folder = start_folder()
    return (labels_of(folder) if folder is not None else None) or ()


def _classes(by_family: Counter[tuple[str, str]]) -> list[str]:
    """The labels of the head, sorted: one a class, however its rows spell it."""
    before = _labels_known_before()
    classes = {normalise_answer(label): label for label in before}
    spellings: Counter[str] = Counter()
    for (_, label), count in by_family.items():
        spellings[label] += count
    for label, _ in sorted(spellings.items(), key=lambda each: (-each[1], each[0])):
        classes.setdefault(normalise_answer(label), label)
    return sorted({*before, *classes.values()})


class _Places:
    """Where a label stands among the head's: under its own spelling, else under another one of the same class."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._exact = {name: place for place, name in enumerate(names)}
        self._of_class = {normalise_answer(name): place for place, name in reversed(list(enumerate(names)))}

    def of(self, label: str) -> int:
        place = self._exact.get(label)
        return self._of_class[normalise_answer(label)] if place is None else place


def _commonest(by_family: Counter[tuple[str, str]], places: _Places) -> dict[str, str]:
    """Family → its commonest label; of equals, the first by name."""
    counts: dict[str, Counter[str]] = {}
    for (family, label), count in by_family.items():
        counts.setdefault(family, Counter())[places.names[places.of(label)]] += count
    return {family: min(labels, key=lambda label: (-labels[label], label)) for family, labels in counts.items()}
