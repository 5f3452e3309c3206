"""What the remote of a shared ledger lost: here three clones and a bare repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from support.shared_repository import clones_of_one_repository
from support.toyworld import git as user

from tasks.model_store.ledger import Entry, append_entry, read_ledger
from tasks.model_store.ledger_chain import version_message
from tasks.model_store.ledger_loss import LedgerLost, require_ledger
from tasks.model_store.ledger_remote import follow_if_possible, follow_remote
from tasks.model_store.versions import refused_ref
from tasks.vcs import git, git_remote

JUDGED = Entry("judged", 1, "w" * 64, "r1", "v" * 64, "d.dir", True, 1, 100, "ada", "2026-11-21T00:00:00+00:00", "好")
LEDGER = "refs/strop/ledger/tiny"


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Three clones of one bare repository; the working directory is the first."""
    monkeypatch.chdir(tmp_path)
    clones = clones_of_one_repository(tmp_path, "one", "two", "three")
    with chdir(clones[0]):
        yield clones


def judge(version: int, remote: str = "origin") -> None:
    if git.resolve(f"refs/tags/tiny@v{version}") is None:
        user("tag", f"tiny@v{version}")
    append_entry("tiny", replace(JUDGED, version=version, receipt=f"r{version}"), len(read_ledger("tiny")), remote)


def promote(version: int, remote: str = "origin") -> None:
    entry = replace(JUDGED, kind="promoted", version=version, receipt=f"r{version}")
    append_entry("tiny", entry, len(read_ledger("tiny")), remote)


def entries() -> list[tuple[str, int]]:
    return [(entry.kind, entry.version) for entry in read_ledger("tiny")]


def lose(*refs: str) -> None:
    user("push", "-q", "origin", "--delete", *refs)


def test_refs_of_versions_that_the_remote_lost_are_pushed_again_by_the_next_command(
    clones: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    judge(1)
    user("update-ref", refused_ref("tiny", 2), "HEAD")
    append_entry("tiny", replace(JUDGED, version=2, passed=False, receipt="r2"), 1, "origin")
    user("tag", "tiny@v3")  # registered, not judged yet: it is pushed with its verdict
    before = git_remote.list_refs("origin", "refs/tags/*", "refs/strop/*")
    lose("refs/tags/tiny@v1", refused_ref("tiny", 2))
    assert not follow_remote("tiny", "origin")
    assert git_remote.list_refs("origin", "refs/tags/*", "refs/strop/*") == before
    with chdir(clones[1]):
        lose("refs/tags/tiny@v1")
        assert follow_remote("tiny", "origin")
    follow_remote("tiny", "origin")
    assert git_remote.list_refs("origin", "refs/tags/*", "refs/strop/*") == before
    with chdir(clones[1]):
        follow_remote("tiny", "origin")
        hook = clones[0].parent / "shared.git/hooks/pre-receive"
        lose("refs/tags/tiny@v1")
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
        follow_if_possible("tiny", "origin")
        assert "origin lacks tiny@v1, and refuses the push" in caplog.text
        assert entries() == [("judged", 1), ("judged", 2)]


def test_a_clone_that_is_behind_does_not_begin_the_lost_ledger_anew(
    clones: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    judge(1)
    promote(1)
    with chdir(clones[1]):
        follow_remote("tiny", "origin")
    judge(2)
    promote(2)
    lose(LEDGER, "refs/tags/tiny@v2")
    with chdir(clones[1]):  # nothing at the remote names the promotion of v2
        with pytest.raises(LedgerLost, match=r"is not at origin any more, where this clone saw its entry"):
            judge(3)
        with pytest.raises(LedgerLost):
            follow_remote("tiny", "origin")
        with pytest.raises(LedgerLost, match=rf"git push origin {LEDGER}"):
            require_ledger("tiny", "origin")
        follow_if_possible("tiny", "origin")
        assert "this clone's ledger is used" in caplog.text
        assert entries() == [("judged", 1), ("promoted", 1)]
        assert LEDGER not in git_remote.list_refs("origin", "refs/strop/*")
        user("push", "-q", "origin", LEDGER)  # a person, from the wrong clone
    follow_remote("tiny", "origin")
    judge(3)  # with the entries that the remote lost
    with chdir(clones[1]):
        follow_remote("tiny", "origin")
        assert entries() == [("judged", 1), ("promoted", 1), ("judged", 2), ("promoted", 2), ("judged", 3)]
        assert git.resolve("tiny@v2") is not None
        require_ledger("tiny", "origin")


def test_a_clone_that_never_saw_the_ledger_at_the_remote_begins_it_only_with_all_that_versions_there_name(
    clones: list[Path],
) -> None:
    judge(1, remote="")
    promote(1, remote="")
    head = str(git.resolve(LEDGER))
    second = git.make_commit(git.run("rev-parse", "HEAD^{tree}").strip(), version_message("2", "r2", head), parent=None)
    user("push", "-q", "origin", "tiny@v1", f"{second}:refs/tags/tiny@v2")
    with chdir(clones[2]):  # has the tag of the first version, and a shorter ledger
        user("fetch", "-q", "origin", "tag", "tiny@v1")
        judge(1, remote="")
        with pytest.raises(LedgerLost, match="which has v2, but the ledger of this clone has no verdict on it"):
            follow_remote("tiny", "origin")
        user("tag", "tiny@v2", "HEAD")
        with pytest.raises(LedgerLost, match=f"whose v2 names the entry {head[:12]}, which this clone lacks"):
            judge(2)
        assert LEDGER not in git_remote.list_refs("origin", "refs/strop/*")
    user("tag", "tiny@v2", second)
    judge(2)
    assert LEDGER in git_remote.list_refs("origin", "refs/strop/*")
    require_ledger("tiny", "origin")
