"""What a trained model does: it writes, tells labels apart, or scores answers. Seen from its folder, without loading it."""

from __future__ import annotations

from pathlib import Path

from tasks.runtime.files import read_json

LABELS = "labels.json"
"""In the folder of a trained model with a head of labels (or of one number, the reward): their names, in the head's order."""
REWARD = ("reward",)
"""The one label of a reward model."""


def what_it_does(folder: Path) -> str:
    """Of the model in `folder`, as a phrase."""
    path = folder / LABELS
    if not path.is_file():
        return "writes"
    return "scores answers" if tuple(read_json(path)) == REWARD else "tells labels apart"


def what_objective_does(objective: str) -> str:
    """Of a model that is trained so."""
    return {"classify": "tells labels apart", "reward": "scores answers"}.get(objective, "writes")
