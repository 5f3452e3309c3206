"""A project that was moved, copied, or linked (a git worktree, a symbolic link): every copy works, and none changes another."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import toyworld

pytestmark = pytest.mark.usefixtures("warm")

Strop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(toyworld.template("serving"), tmp_path / "main", symlinks=True)


def answers(root: Path, strop: Strop) -> None:
    """The commands that read a version work in a tree, and say what they say anywhere."""
    with contextlib.chdir(root):
        code, out, err = strop("status", "--json")
        assert (code, '"champion": 1' in out) == (0, True), out + err
        for version in ("1", "2"):
            code, out, err = strop("audit", version)
            assert code == 0, out + err
            assert str(root) not in out
        code, out, err = strop("generate", "Which city?", "--max-tokens", "2")
        assert code == 0, out + err
        assert "corrected" not in err
        assert "relative" not in err


def registry_bytes(root: Path) -> bytes:
    return (root / "mlflow/mlflow.db").read_bytes()


def test_a_linked_worktree_has_the_versions_of_the_main_one_and_changes_nothing_there(
    main: Path, strop: Strop, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = main.parent / "linked"
    toyworld.git("worktree", "add", "-q", "--detach", str(linked), cwd=main)
    before = registry_bytes(main)
    answers(linked, strop)
    answers(main, strop)
    assert registry_bytes(main) == before
    assert not (linked / "mlflow/mlflow.db").exists(), "a registry of its own would number two models alike"

    shutil.copytree(main / "inbox", linked / "inbox")
    monkeypatch.chdir(linked)  # what is registered there is in the one registry
    toyworld.set_params(seed=3)
    toyworld.run_stages()
    assert toyworld.register().version == 3
    assert not (linked / "mlflow/artifacts").exists()
    monkeypatch.chdir(main)
    shutil.rmtree(linked)
    code, out, err = strop("audit", "3")
    assert code == 0, out + err


def test_a_copy_and_the_original_are_independent(main: Path, strop: Strop, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(main, main.parent / "copy", symlinks=True)
    before = registry_bytes(main)
    answers(copy, strop)
    answers(main, strop)
    monkeypatch.chdir(copy)
    toyworld.set_params(seed=3)
    toyworld.run_stages()
    assert toyworld.register().version == 3
    assert registry_bytes(main) == before
    models = {path.name for path in (main / "mlflow/artifacts/models").iterdir()}
    assert len(models) == 2, "the copy logged its model into the original"


def test_a_moved_project_and_one_behind_a_symbolic_link_answer_as_before(main: Path, strop: Strop) -> None:
    before = registry_bytes(main)
    moved = main.rename(main.parent / "moved")
    answers(moved, strop)
    link = main.parent / "link"
    link.symlink_to(moved)
    answers(link, strop)
    assert registry_bytes(moved) == before
