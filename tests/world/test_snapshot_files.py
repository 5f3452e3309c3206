"""The folder of a run: a consistent snapshot of the inputs, independent of later changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.git_trees import tree_of_commit
from support.project import own_code, params, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import qa_records, write_jsonl
from support.toyworld import git

from tasks import paths
from tasks.runtime.run_origin import current_snapshot, project, written_path
from tasks.state.decisions import record_decision, record_decisions
from tasks.vcs.git_clone import clone_at
from tasks.workspace import copy_inputs
from tasks.workspace.inputs import outputs_of
from tasks.workspace.run_folder import begin, hand_over, take_collected
from tasks.workspace.snapshot_commit import make_snapshot_commit


@pytest.fixture
def root(project: Path, tmp_path: Path) -> Path:
    write_jsonl(project / "inbox/a.jsonl", qa_records(6))
    sources = [{"name": "qa", "path": "inbox/*.jsonl", "shape": "alpaca", "family": "qa"}]
    write_params(project, params(make_tiny_gpt2(tmp_path / "base"), sources))
    own_code(project)
    (project / "data/decisions.jsonl").write_text("")
    (project / "data/templates/mine.yaml").write_text("untracked: 1\n")
    return project


def enter(work: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(work)
    snapshot = current_snapshot()
    assert snapshot is not None
    return snapshot.tree


INPUTS = ("params.yaml", "dvc.yaml", "data/contract/contract.yaml", "data/templates/qa.yaml", "data/templates/mine.yaml",
          "data/decisions.jsonl", "tasks/gate/policy.py", "recipes/smollm2-news.yaml", "constraints.txt")  # fmt: skip


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"# edited\n")


def half_write(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def link_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("change", [edit, half_write, link_elsewhere, Path.unlink])
def test_no_input_changes_under_a_run_and_the_version_holds_them(
    change: Callable[[Path], None], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (root / name).read_bytes() for name in INPUTS}
    head = git("rev-parse", "HEAD").strip()
    work = begin()
    for name in INPUTS:
        change(root / name)
    git("commit", "-q", "--allow-empty", "-m", "Meanwhile")
    tree = enter(work, monkeypatch)
    assert {name: Path(name).read_bytes() for name in INPUTS} == before
    made = make_snapshot_commit("a version")
    assert tree_of_commit(made) == tree
    assert git("rev-parse", f"{made}^").strip() == head
    assert {name: git("show", f"{made}:{name}").encode() for name in INPUTS} == before
    monkeypatch.chdir(root)
    assert begin() == work
    assert (work / "params.yaml").exists() == (root / "params.yaml").exists()
    if (root / "params.yaml").exists():
        assert (work / "params.yaml").read_bytes() == (root / "params.yaml").read_bytes()
        assert not (work / "params.yaml").is_symlink()


def test_the_same_inputs_give_the_same_digest_and_other_ones_another(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = []
    for content in ("a: 1\n", "a: 2\n", "a: 1\n"):
        (root / "data/templates/mine.yaml").write_text(content)
        (root / "dvc.lock").write_text(f"# {len(trees)}\n")  # what runs leave behind is no input
        begin()
        trees.append(enter(paths.WORK.absolute(), monkeypatch))
        monkeypatch.chdir(root)
    assert trees[0] == trees[2] != trees[1]


def test_the_user_sees_nothing_of_it_in_git(root: Path) -> None:
    git("add", "data/templates/mine.yaml")
    status, index = git("status", "--porcelain"), (root / ".git/index").read_bytes()
    begin()
    assert git("--no-optional-locks", "status", "--porcelain") == status
    assert (root / ".git/index").read_bytes() == index


def test_a_file_that_is_written_while_the_snapshot_is_taken_is_taken_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, edits = copy_inputs.copy_file, [1, 2]

    def copy_and_edit(source: str, target: str) -> None:
        copy(source, target)
        if source == "params.yaml" and edits:  # both belong together, and were written one after another
            text = f"# {edits.pop()}\n"
            Path("data/templates/mine.yaml").write_text(text)
            Path("params.yaml").write_text(text)

    monkeypatch.setattr(copy_inputs, "copy_file", copy_and_edit)
    work = begin()
    assert (work / "params.yaml").read_text() == (work / "data/templates/mine.yaml").read_text() == "# 1\n"


def test_unchanged_inputs_keep_inode_and_time_and_removed_ones_are_removed(root: Path) -> None:
    (root / "tasks/extra.py").write_text("")
    work = begin()
    before = (work / "tasks/config.py").stat()
    (root / "tasks/extra.py").unlink()
    (work / "tasks/gate/policy.py").write_text("by a stray hand")
    begin()
    after = (work / "tasks/config.py").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (work / "tasks/extra.py").exists()
    assert (work / "tasks/gate/policy.py").read_bytes() == (root / "tasks/gate/policy.py").read_bytes()


def test_what_is_no_input_is_the_projects_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.parent / "models").mkdir()
    (root / os.fsdecode("数据.txt".encode("gbk"))).write_text("its name is no UTF-8")
    enter(begin(), monkeypatch)
    assert Path("inbox/a.jsonl").samefile(root / "inbox/a.jsonl")
    assert Path("mlflow").resolve() == root / "mlflow"
    assert paths.CACHE.resolve() == root / ".strop"
    assert project() == root
    assert written_path("../models").resolve() == root.parent / "models"


def test_a_link_among_the_inputs_is_what_it_led_to(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = root.parent / "shared"
    shutil.move(root / "data/contract", shared)
    (root / "data/contract").symlink_to(shared)
    (root / "data/templates/mine.yaml").unlink()
    (root / "data/templates/mine.yaml").symlink_to(shared / "contract.yaml")
    before = (shared / "contract.yaml").read_bytes()
    tree = enter(begin(), monkeypatch)
    (shared / "contract.yaml").write_text("edited: 1\n")
    assert paths.CONTRACT.read_bytes() == before
    assert git("show", f"{tree}:data/contract/contract.yaml").encode() == before
    assert git("show", f"{tree}:data/templates/mine.yaml").encode() == before


def test_decisions_of_sources_join_the_run_and_those_of_people_wait(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begin()
    (root / "data/raw").mkdir()
    record_decision("exclude", "b1", "by hand")
    record_decisions("drop", ["r1"], "no longer found good", who="source traces")
    before = enter(work, monkeypatch)
    take_collected()
    assert [line.split('"which":"')[1][:2] for line in paths.DECISIONS.read_text().splitlines()] == ["r1"]
    snapshot = current_snapshot()
    assert snapshot is not None
    assert snapshot.tree != before
    assert tree_of_commit(make_snapshot_commit("a version")) == snapshot.tree


def test_outputs_come_back_whole_and_reports_of_others_stay(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "data/curated").mkdir()
    (root / "data/curated/old.parquet").write_text("old")
    (root / "data/reports").mkdir()
    (root / "data/reports/curate.json").write_text("old")
    work = begin()
    (root / "data/reports/mine.md").write_text("a person's")
    monkeypatch.chdir(work)
    assert Path("data/curated/old.parquet").samefile(root / "data/curated/old.parquet")
    shutil.rmtree("data/curated")
    Path("data/curated").mkdir()
    Path("data/curated/new.parquet").write_text("new")
    Path("data/reports/curate.json").unlink()
    Path("dvc.lock").write_text("new")
    hand_over("curate")
    assert os.listdir(root / "data/curated") == ["new.parquet"]
    assert (root / "data/curated/new.parquet").samefile("data/curated/new.parquet")
    assert os.listdir(root / "data/reports") == ["mine.md"]
    assert (root / "dvc.lock").read_text() == "new"


def test_outputs_of_stages_by_a_pattern_are_those_of_the_lock(tmp_path: Path) -> None:
    text = "stages:\n  a:\n    foreach: [x]\n    do:\n      cmd: make ${item}\n      outs:\n      - out/${item}\n"
    (tmp_path / "dvc.yaml").write_text(
        text + "  b:\n    wdir: sub\n    cmd: make\n    outs: [../made: {cache: false}]\n"
    )
    (tmp_path / "dvc.lock").write_text("stages:\n  a@x:\n    outs:\n    - path: out/x\n")
    assert outputs_of(tmp_path / "dvc.yaml") == ["made", "out/x"]
    assert outputs_of(tmp_path / "dvc.yaml", "a") == ["out/x"]


def test_a_command_in_the_folder_of_a_run_works_in_the_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions that were written there would be lost, and a run would take itself for its project."""
    for folder in (begin(), paths.WORK / "data", root):
        assert paths.find_root(folder) == root.resolve()


def stored(tree: str, name: str) -> bytes:
    return subprocess.run(["git", "cat-file", "blob", f"{tree}:{name}"], capture_output=True, check=True).stdout


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_does_not_check_is_an_input_in_its_present_state(
    flag: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = ("params.yaml", "data/templates/qa.yaml", "tasks/gate/policy.py")
    git("add", "--", *edited)
    git("update-index", flag, *edited)
    for name in edited:
        edit(root / name)
    flags = git("ls-files", "-v")
    tree = enter(begin(), monkeypatch)
    for name in edited:
        assert stored(tree, name) == Path(name).read_bytes() == (root / name).read_bytes()
    assert git("-C", str(root), "ls-files", "-v") == flags


def test_a_file_that_a_sparse_checkout_leaves_out_stays_in_the_version(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (root / "recipes/smollm2-news.yaml").read_bytes()
    git("update-index", "--skip-worktree", "recipes/smollm2-news.yaml")
    (root / "recipes/smollm2-news.yaml").unlink()
    tree = enter(begin(), monkeypatch)
    assert not Path("recipes/smollm2-news.yaml").exists()
    assert stored(tree, "recipes/smollm2-news.yaml") == before


@pytest.mark.parametrize("attributes_file", [".gitattributes", ".git/info/attributes"])
def test_a_version_holds_the_bytes_of_the_disk_whatever_git_would_make_of_them(
    attributes_file: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = "*.yaml text eol=crlf\n*.py ident\nparams.yaml filter=shout\n*.txt working-tree-encoding=UTF-16\n"
    (root / attributes_file).write_text(rules)
    git("config", "filter.shout.clean", "tr a-z A-Z")
    git("config", "core.autocrlf", "true")
    for name, content in {
        "data/templates/mine.yaml": b"untracked: 1\r\nmixed: 2\n",
        "tasks/gate/policy.py": b"# $Id: 123 $\r\n",
        "constraints.txt": "数\n".encode("utf-16"),
        'tasks/"a\nb".py': b"x = 1\n",
    }.items():
        (root / name).write_bytes(content)
    git("add", "-N", attributes_file) if attributes_file == ".gitattributes" else None
    names = (*INPUTS, 'tasks/"a\nb".py')
    before = {name: (root / name).read_bytes() for name in names}
    tree = enter(begin(), monkeypatch)
    assert {name: Path(name).read_bytes() for name in names} == before
    assert {name: stored(tree, name) for name in names} == before
    clone_at(make_snapshot_commit("a version"), tmp_path / "clone")
    assert {name: (tmp_path / "clone" / name).read_bytes() for name in names} == before


def test_git_lfs_files_are_stored_as_their_pointers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("config", "filter.lfs.clean", "sha256sum")
    (root / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (root / "tasks/model.bin").write_bytes(b"large")
    git("add", ".gitattributes")
    tree = enter(begin(), monkeypatch)
    assert Path("tasks/model.bin").read_bytes() == b"large"
    assert stored(tree, "tasks/model.bin") == f"{hashlib.sha256(b'large').hexdigest()}  -\n".encode()
