"""Atomic copies: after a kill and on a full disk nothing incomplete stays, and nothing is written through a link."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from tasks.runtime.linked_folder import copy_file


def test_what_a_killed_copy_left_is_not_written_through(tmp_path: Path) -> None:
    project, work = tmp_path / "project", tmp_path / "work"
    project.mkdir()
    work.mkdir()
    (project / "dvc.lock.copying").write_text("half")
    (work / "dvc.lock.copying").symlink_to(
        project / "dvc.lock.copying"
    )  # as all of the project is linked into a run's folder
    (project / "new").write_text("whole")
    copy_file(str(project / "new"), str(work / "dvc.lock"))
    assert (work / "dvc.lock").read_text() == "whole"
    assert not (work / "dvc.lock").is_symlink()
    assert (project / "dvc.lock.copying").read_text() == "half"
    copy_file(str(work / "dvc.lock"), str(project / "dvc.lock"))
    assert sorted(path.name for path in project.iterdir()) == ["dvc.lock", "new"]


def test_a_copy_that_has_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(source: str, target: str) -> None:
        Path(target).write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device", target)

    (tmp_path / "a").write_text("whole")
    (tmp_path / "b").write_text("before")
    monkeypatch.setattr(shutil, "copy2", half)
    with pytest.raises(OSError, match="No space left"):
        copy_file(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
