"""A stale ref lock of a killed git is removed; a lock of a running git is waited for, and never removed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.toyworld import git as user

from tasks.errors import GitError
from tasks.vcs import git, git_locks
from tasks.vcs.git_locks import git_processes_using, lock_in_message

REF = "refs/strop/ledger/tiny"


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(git_locks, "PATIENCE_SECONDS", 0.5)
    user("init", "-q", "-b", "main")
    user("commit", "-q", "--allow-empty", "-m", "Start")
    return user("rev-parse", "HEAD").strip()


def leave_lock(name: str = f"{REF}.lock") -> Path:
    lock = Path(".git", name).resolve()
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    return lock


def test_a_lock_that_a_killed_git_left_is_removed_and_reported(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    lock = leave_lock()
    os.utime(lock, (time.time() - 600, time.time() - 600))
    git.move_ref(REF, head, expected=None)
    assert git.resolve(REF) == head
    assert not lock.exists()
    assert capsys.readouterr().err == f"git: removed {lock}, a stale lock of a killed git process, 10 min old\n"


def test_a_lock_of_all_refs_is_removed_too(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    lock = leave_lock("packed-refs.lock")
    user("update-ref", REF, head)
    message = subprocess.run(["git", "update-ref", "-d", REF], capture_output=True, text=True, check=False).stderr
    assert lock_in_message(message) == lock
    git_locks.wait_for_lock(lock)
    assert not lock.exists()
    assert "packed-refs.lock" in capsys.readouterr().err


def test_a_lock_that_is_released_is_waited_for(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    lock = leave_lock()
    threading.Timer(0.2, lock.unlink).start()
    git.move_ref(REF, head, expected=None)
    assert git.resolve(REF) == head
    assert capsys.readouterr().err == ""


def test_a_lock_that_a_living_process_has_open_stays(head: str) -> None:
    lock = leave_lock()
    code = f"import sys; kept = open({str(lock)!r}, 'a'); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    try:
        assert git_processes_using(lock) == [holder.pid]
        with pytest.raises(GitError, match=rf"locked by git \(process {holder.pid}\). Wait for it") as raised:
            git.move_ref(REF, head, expected=None)
        assert not isinstance(raised.value, git.RefMoved), "nobody else moved it"
        assert lock.exists()
    finally:
        holder.communicate()
    git.move_ref(REF, head, expected=None)
    assert git.resolve(REF) == head


def test_a_git_that_works_here_keeps_the_lock(head: str) -> None:
    lock = leave_lock()
    worker = subprocess.Popen(["git", "update-ref", "--stdin"], stdin=subprocess.PIPE)
    reader = subprocess.Popen(["git", "cat-file", "--batch"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(GitError, match=f"process {worker.pid}\\)"):
            git.move_ref(REF, head, expected=None)
        assert lock.exists()
    finally:
        worker.communicate()
        reader.communicate()


def test_if_the_holder_is_unknown_the_lock_stays_and_the_message_has_the_fix(
    head: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = leave_lock()
    assert git_processes_using(lock, processes=tmp_path / "no-proc") is None
    (tmp_path / f"hiding/{os.getpid()}/fd").mkdir(parents=True)  # as with hidepid=2: only this user's
    assert git_processes_using(lock, processes=tmp_path / "hiding") is None
    monkeypatch.setattr(git_locks, "git_processes_using", lambda _: None)
    with pytest.raises(GitError, match=f"Check that no git runs here, then: rm {lock}"):
        git.move_ref(REF, head, expected=None)
    assert lock.exists()


def test_a_ref_that_moved_while_it_was_locked_is_reported_as_moved(head: str) -> None:
    user("update-ref", REF, head)
    leave_lock()
    with pytest.raises(git.RefMoved):
        git.move_ref(REF, head, expected=None)


@pytest.mark.parametrize("way", ["--git-dir=", "--git-dir", "GIT_DIR", "-C"])
def test_a_git_that_holds_a_lock_from_elsewhere_keeps_it(
    way: str, head: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    here = str(Path(".git").resolve())
    (elsewhere / "log").symlink_to(Path.cwd())  # a folder that is named like a command which only reads
    ways = {"--git-dir=": [f"--git-dir={here}"], "--git-dir": ["--git-dir", here], "-C": ["-C", "log"]}
    environment = {**os.environ, "GIT_DIR": here} if way == "GIT_DIR" else None
    command = ["git", *ways.get(way, []), "update-ref", "--stdin"]
    holder = subprocess.Popen(
        command, cwd=elsewhere, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(f"start\nupdate {REF} {head}\nprepare\n")
        holder.stdin.flush()
        assert [holder.stdout.readline(), holder.stdout.readline()] == ["start: ok\n", "prepare: ok\n"]
        lock = Path(".git", f"{REF}.lock")
        assert git_processes_using(lock) == [holder.pid]
        with pytest.raises(GitError, match=f"process {holder.pid}\\)"):
            git.move_ref(REF, head, expected=None)
        assert lock.exists()
    finally:
        holder.communicate("commit\n")
    assert git.resolve(REF) == head, "what it did was done"


def test_a_git_at_work_in_another_repository_keeps_no_lock_of_ours(
    head: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    user("init", "-q", str(other))
    command = ["git", f"--git-dir={other / '.git'}", "update-ref", "--stdin"]
    worker = subprocess.Popen(command, cwd=other.parent, stdin=subprocess.PIPE)
    try:
        assert git_processes_using(leave_lock()) == []
    finally:
        worker.communicate()


def test_a_lock_in_a_project_with_an_apostrophe_that_a_link_leads_to_is_known(
    tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = tmp_path.parent / f"{tmp_path.name} o'brien"
    linked.symlink_to(tmp_path)
    monkeypatch.chdir(linked)
    monkeypatch.setenv("PWD", str(linked))
    lock = leave_lock()
    code = f"import sys; kept = open({str(lock)!r}, 'a'); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    try:
        assert git_processes_using(linked / ".git" / f"{REF}.lock") == [holder.pid]
        assert (
            lock_in_message(f"Unable to create '{linked}/.git/{REF}.lock': File exists.") == linked / f".git/{REF}.lock"
        )
    finally:
        holder.communicate()
