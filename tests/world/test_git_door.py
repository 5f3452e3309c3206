"""tasks/vcs/git.py: a commit outside the user's branch, refs by compare-and-swap, clear errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.git_trees import tree_of_commit
from support.toyworld import git as user
from support.toyworld import users_view

from tasks import paths
from tasks.errors import GitError
from tasks.vcs import git
from tasks.vcs.git_clone import clone_at
from tasks.workspace.snapshot_commit import make_snapshot_commit, snapshot_now


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    user("init", "-q", "-b", "main")
    for name, content in {
        "dvc.yaml": "stages: {}\n",
        "params.yaml": "a: 1\n",
        "gone.txt": "x\n",
        ".gitignore": "*.log\ndvc.lock\n",
    }.items():
        Path(name).write_text(content)
    user("add", "-A")
    user("commit", "-q", "-m", "Start")
    return tmp_path


def files_of(commit: str) -> set[str]:
    return set(user("-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", commit).splitlines())


def fill_the_project() -> None:
    """Changes of every kind."""
    Path("params.yaml").write_text("a: 2\n")
    Path("gone.txt").unlink()
    Path("dvc.lock").write_text("schema: '2.0'\n")
    for name in (
        "tasks/curate/规则 new.py",
        "tasks/noise.log",
        "data/templates/own.yaml",
        "data/raw.dvc",
        "data/round.json",
        "报告.txt",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("new\n")
    Path("staged.txt").write_text("staged\n")
    user("add", "staged.txt")


def test_a_commit_beside_never_touches_head_index_or_files(repository: Path) -> None:
    fill_the_project()
    before = users_view()
    made = make_snapshot_commit("version 1")
    assert users_view() == before
    assert git.resolve(f"{made}^") == git.head_commit()


def test_a_commit_beside_holds_changes_ours_and_what_a_rebuild_needs(repository: Path) -> None:
    fill_the_project()
    made = make_snapshot_commit("version 1")
    as_they_were = {".gitignore", "dvc.yaml", "params.yaml", "staged.txt"}
    needed = {"dvc.lock", "data/raw.dvc", "data/round.json"}
    assert files_of(made) == {*as_they_were, *needed, "tasks/curate/规则 new.py", "data/templates/own.yaml"}
    assert snapshot_now().left_out == ("报告.txt",)
    assert git.read_at(made, paths.PARAMS) == b"a: 2\n"
    assert git.read_at(made, Path("gone.txt")) is None


def test_a_commit_beside_is_made_while_a_merge_is_under_way(repository: Path) -> None:
    user("checkout", "-q", "-b", "other")
    Path("params.yaml").write_text("a: 3\n")
    user("commit", "-q", "-am", "three")
    user("checkout", "-q", "main")
    Path("params.yaml").write_text("a: 4\n")
    user("commit", "-q", "-am", "four")
    with pytest.raises(Exception, match="merge"):
        user("merge", "other")
    made = make_snapshot_commit("version 1")
    assert b"<<<<<<<" in (git.read_at(made, paths.PARAMS) or b"")
    assert "UU params.yaml" in user("status", "--porcelain")


def test_a_commit_is_signed_by_us_where_the_user_has_no_name(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    user("config", "user.useConfigOnly", "true")
    made = make_snapshot_commit("version 1")
    assert user("log", "-1", "--format=%an <%ae>", made).strip() == "Strop <strop@localhost>"
    user("config", "user.name", "Ada")
    user("config", "user.email", "ada@example.org")
    made = make_snapshot_commit("version 1")
    assert user("log", "-1", "--format=%an <%ae>", made).strip() == "Ada <ada@example.org>"


def test_a_ref_moves_only_from_where_it_was_expected(repository: Path) -> None:
    head = git.head_commit()
    other = make_snapshot_commit("other")
    git.move_ref("refs/strop/x", head, expected=None)
    with pytest.raises(git.RefMoved):
        git.move_ref("refs/strop/x", other, expected=None)
    with pytest.raises(git.RefMoved):
        git.move_ref("refs/strop/x", other, expected=other)
    git.move_ref("refs/strop/x", other, expected=head)
    assert git.resolve("refs/strop/x") == other


def test_a_tag_is_made_once_and_never_moved(repository: Path) -> None:
    head = git.head_commit()
    git.make_ref("refs/tags/tiny@v1", head)
    git.make_ref("refs/tags/tiny@v1", head)
    with pytest.raises(GitError, match="already points at"):
        git.make_ref("refs/tags/tiny@v1", make_snapshot_commit("other"))


def test_a_clone_of_a_refused_candidate_holds_its_commit(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fill_the_project()
    made = make_snapshot_commit("refused")
    git.make_ref("refs/strop/refused/tiny/v1", made)
    clone = tmp_path_factory.mktemp("clones") / "clone"
    clone_at(made, clone)
    assert (clone / "params.yaml").read_text() == "a: 2\n"
    assert not (clone / "报告.txt").exists()


def test_no_repository_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GitError, match=r"no git repository\. Create one: git init"):
        git.require_repository()
    user("init", "-q")
    with pytest.raises(GitError, match="no commit yet"):
        git.require_repository()
    with pytest.raises(GitError, match="no commit yet"):
        make_snapshot_commit("nothing")


def test_a_repository_that_begins_above_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git.require_repository()
    Path("inner").mkdir()
    monkeypatch.chdir("inner")
    with pytest.raises(GitError, match="is a parent folder"):
        git.require_repository()


def test_git_that_is_not_installed_is_one_clear_line(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GitError, match="not installed"):
        git.head_commit()


def test_inside_a_hook_git_still_looks_here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = git.head_commit()
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert git.head_commit() == expected


@pytest.mark.parametrize(
    "variable",
    [
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_GRAFT_FILE",
        "GIT_SHALLOW_FILE",
    ],
)
def test_a_variable_of_another_repository_changes_nothing_that_is_read_or_written(
    variable: str, repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    user("commit", "-q", "--allow-empty", "-m", "Second")
    head, first = user("rev-parse", "HEAD", "HEAD^").split()
    other = tmp_path_factory.mktemp("others") / "other"
    user("clone", "-q", str(repository), str(other))
    (other / "params.yaml").write_text("a: 2\n")
    user("-C", str(other), "add", "-A")  # its objects are there, and not here
    (other / "grafts").write_text(f"{head}\n")
    (other / "shallow").write_text(f"{head}\n")
    paths_of_variables = {"GIT_COMMON_DIR": ".git", "GIT_GRAFT_FILE": "grafts", "GIT_SHALLOW_FILE": "shallow"}
    (repository / "params.yaml").write_text("a: 2\n")
    with monkeypatch.context() as patch:
        patch.setenv(variable, str(other / paths_of_variables.get(variable, ".git/objects")))
        assert git.first_parents("HEAD") == [head, first]
        made = make_snapshot_commit("version 1")
        git.make_ref("refs/strop/x", made)
    assert user("show", f"{made}:params.yaml") == "a: 2\n"
    assert user("rev-parse", "refs/strop/x").strip() == made


def test_replaced_objects_and_grafts_are_ignored(repository: Path) -> None:
    made = make_snapshot_commit("version 1")
    git.make_ref("refs/strop/x", made)
    expected = tree_of_commit(made)
    Path("params.yaml").write_text("a: 3\n")
    other = make_snapshot_commit("version 2")
    user("replace", made, other)
    Path(".git/info/grafts").write_text(f"{made}\n")
    assert tree_of_commit(made) == expected != tree_of_commit(other)
    assert git.read_at(made, paths.PARAMS) == b"a: 1\n"
    assert git.first_parents(made) == [made, git.head_commit()]
