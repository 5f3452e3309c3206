"""An erasure that was interrupted, or whose remote was unreachable, is completed by the next."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.erasing import SECRET, files_with, ids_of

from flows.cli import main
from tasks import paths
from tasks.erase import stage
from tasks.erase.stage import erase, resume
from tasks.errors import VersioningError
from tasks.runtime.files import new_file
from tasks.state.erasures import read_erasures

pytestmark = pytest.mark.usefixtures("warm")


def test_an_interrupted_erasure_is_completed_by_the_next(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("_rewrite_raw", "_replace_objects", "_clear_outputs", "_clear_caches"):
        with monkeypatch.context() as patch:
            patch.setattr(stage, name, _killed)
            with pytest.raises(KeyboardInterrupt):
                resume() if paths.ERASING.exists() else erase(ids_of(SECRET), why="asked to")
    left = [new_file(folder, ".a.parquet.") for folder in (paths.RAW, paths.CURATED)]  # as `replacing` makes them
    assert main.run(["rows", "forget", "--erase"]) == 0
    assert not any(path.exists() for path in left)
    assert "the erasure is complete" in capsys.readouterr().out
    assert files_with(SECRET, world, world.parent / "store") == []
    assert len(read_erasures()) == len({each.old for each in read_erasures()})


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_an_unreachable_remote_is_reported_and_the_next_erasure_completes_it(world: Path) -> None:
    store = world.parent / "store"
    store.rename(store.with_name("away"))
    store.write_text("in the way")
    with pytest.raises(VersioningError, match="are still in a DVC remote"):
        erase(ids_of(SECRET), why="asked to")
    store.unlink()
    store.with_name("away").rename(store)
    assert resume() is not None
    assert files_with(SECRET, world, store) == []
    assert resume() is None


def test_objects_that_only_a_remote_has_are_removed_too(world: Path) -> None:
    store = world.parent / "store"
    shutil.rmtree(".dvc/cache")
    for folder in (paths.RENDERED, paths.PREDICTIONS):
        shutil.rmtree(folder, ignore_errors=True)
    erase(ids_of(SECRET), why="asked to")
    assert files_with(SECRET, world, store) == []


def test_a_dry_run_finishes_nothing(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_rewrite_raw", _killed)
        with pytest.raises(KeyboardInterrupt):
            erase(ids_of(SECRET), why="asked to")
    assert main.run(["rows", "forget", "--erase", "--dry-run"]) == 0
    assert "was interrupted" in capsys.readouterr().out
    assert files_with(SECRET, paths.RAW)
