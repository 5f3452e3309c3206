"""Folders with people's files that stages read; they exist also in a project without such files."""

from __future__ import annotations

from tasks import paths
from tasks.runtime.files import write_text

NOTES = {
    paths.JUDGES: "Rubrics of the pairwise judge, and people's preferences: docs/judge.md\n",
    paths.FORGETTING: "Anchors, and tasks of lm-eval: docs/evaluation.md\n",
}


def begin_input_folders() -> None:
    """Creates missing folders with a note: DVC stops at a missing dependency, and git keeps no empty folder."""
    for folder, note in NOTES.items():
        if not folder.is_dir():
            write_text(folder / "README.md", note)
