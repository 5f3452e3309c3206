"""The folder of the judge's rubrics, which is an input of `evaluate` also in a project without a judge."""

from __future__ import annotations

from tasks import paths
from tasks.runtime.files import write_text


def begin_rubrics() -> None:
    """Creates the folder with a note if it does not exist: DVC stops at a missing dependency, and git keeps no empty folder."""
    if not paths.JUDGES.is_dir():
        write_text(
            paths.JUDGES / "README.md", "Rubrics of the pairwise judge, and people's preferences: docs/judge.md\n"
        )
