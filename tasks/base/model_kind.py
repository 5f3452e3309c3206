"""The kind of a trained model: it generates, classifies, or scores answers. Read from its folder, without loading it."""

from __future__ import annotations

from pathlib import Path

from tasks.runtime.files import read_json

LABELS = "labels.json"
"""File of a model with a classification or reward head: the names of its labels, in the head's order."""
REWARD = ("reward",)
"""The one label of a reward model."""


def kind_of_model(folder: Path) -> str:
    """The kind of the model in `folder`, as a verb phrase."""
    path = folder / LABELS
    if not path.is_file():
        return "generates"
    return "scores answers" if tuple(read_json(path)) == REWARD else "classifies"
