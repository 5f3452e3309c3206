"""The ledger that several machines share through a git remote: here two clones and a bare repository."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.project import REPOSITORY
from support.shared_repository import clones_of_one_repository
from support.toyworld import git as user

from tasks import paths
from tasks.model_store import ledger
from tasks.model_store.anchored_ledger import read_anchored
from tasks.model_store.ledger import Entry, LedgerMoved, append_entry, champion_of, read_ledger
from tasks.model_store.ledger_chain import LedgerBroken
from tasks.model_store.ledger_entries import served_until
from tasks.model_store.ledger_remote import follow_if_behind, follow_if_possible, follow_remote, publish
from tasks.model_store.versions import refused_ref
from tasks.register import stage
from tasks.register.withdrawal import withdraw_unjudged
from tasks.vcs import git, git_remote

JUDGED = Entry("judged", 1, "w" * 64, "r1", "v" * 64, "d.dir", True, 1, 100, "ada", "2026-11-21T00:00:00+00:00", "好")


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two clones of one repository."""
    monkeypatch.chdir(tmp_path)
    one, two = clones_of_one_repository(tmp_path, "one", "two")
    return one, two


def judge(version: int) -> None:
    """Appends a verdict, with the tag of its version."""
    if git.resolve(f"refs/tags/tiny@v{version}") is None:
        user("tag", f"tiny@v{version}")
    entry = replace(JUDGED, version=version, receipt=f"r{version}")
    append_entry("tiny", entry, len(read_ledger("tiny")), "origin")


def promote(version: int) -> None:
    entry = replace(JUDGED, kind="promoted", version=version, receipt=f"r{version}")
    append_entry("tiny", entry, len(read_ledger("tiny")), "origin")


def entries() -> list[tuple[str, int]]:
    return [(entry.kind, entry.version) for entry in read_ledger("tiny")]


def test_another_machine_takes_the_entries_and_the_tags_of_their_versions(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        judge(1)
        promote(1)
        user("update-ref", refused_ref("tiny", 2), "HEAD")
        append_entry("tiny", replace(JUDGED, version=2, passed=False, receipt="r2"), 2, "origin")
    with chdir(machines[1]):
        assert follow_remote("tiny", "origin")
        assert entries() == [("judged", 1), ("promoted", 1), ("judged", 2)]
        assert git.resolve("tiny@v1") == git.resolve(refused_ref("tiny", 2)) == git.head_commit()
        assert not follow_remote("tiny", "origin")
        assert user("status", "--porcelain") == ""
        assert not Path(".git/FETCH_HEAD").exists()


def test_of_two_machines_that_promote_at_once_one_wins_and_the_other_keeps_nothing(
    machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with chdir(machines[0]):
        judge(1)
        promote(1)
        judge(2)
        judge(3)
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        before = git.refs_below("refs/strop", "refs/tags")
        real = git_remote.push_refs

        def another_first(remote: str, refs: dict[str, str]) -> None:  # after this machine has looked at the remote
            monkeypatch.setattr(git_remote, "push_refs", real)
            with chdir(machines[0]):
                promote(2)
            real(remote, refs)

        monkeypatch.setattr(git_remote, "push_refs", another_first)
        with pytest.raises(LedgerMoved, match="another machine appended to it first"):
            promote(3)
        assert git.refs_below("refs/strop", "refs/tags") == before
        follow_remote("tiny", "origin")
        champion = champion_of(read_ledger("tiny"))
        assert champion is not None
        assert champion.version == 2


def test_of_many_promoters_on_two_machines_exactly_one_wins(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        for version in range(1, 5):
            judge(version)
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
    code = (
        "import sys\nfrom dataclasses import replace\n"
        "from tasks.model_store.ledger import LedgerMoved, append_entry, judgement_of, read_ledger\n"
        "entries = read_ledger('tiny')\nentry = judgement_of(entries, int(sys.argv[1]))\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "try:\n    append_entry('tiny', replace(entry, kind='promoted'), len(entries), 'origin')\n"
        "except LedgerMoved:\n    sys.exit(3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(version)],
            cwd=machines[version % 2],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for version in range(1, 5)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    errors = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 3, 3, 3], errors
    winners = set()
    for machine in machines:
        with chdir(machine):
            follow_remote("tiny", "origin")
            winners.add(entries()[-1])
            assert len(entries()) == 5
    assert len(winners) == 1


def test_two_machines_cannot_give_one_number_to_two_models(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        judge(1)
    with chdir(machines[1]):
        user("commit", "-q", "--allow-empty", "-m", "Another")
        user("tag", "tiny@v1")
        with pytest.raises(
            LedgerBroken, match=r"is about refs/tags/tiny@v1, which points at .* here, and at .* at origin"
        ):
            follow_remote("tiny", "origin")
        with pytest.raises(LedgerMoved):
            append_entry("tiny", replace(JUDGED, receipt="r9"), 0, "origin")
        assert git.resolve("refs/strop/ledger/tiny") is None


def test_ledgers_that_two_clones_wrote_without_the_remote_are_reported_with_both_entries(
    machines: tuple[Path, Path],
) -> None:
    with chdir(machines[0]):
        judge(1)
        promote(1)
    with chdir(machines[1]):
        user("tag", "tiny@v1")
        append_entry("tiny", JUDGED, 0, "")
        append_entry("tiny", replace(JUDGED, kind="promoted", why="alone"), 1, "")
        with pytest.raises(LedgerBroken, match=r"has the entry .* here, but .* in its place at origin"):
            follow_remote("tiny", "origin")
        with pytest.raises(LedgerMoved):
            judge(2)


def test_a_ledger_of_another_project_at_the_remote_is_not_to_be_taken(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        judge(1)
    with chdir(machines[1]):
        user("tag", "tiny@v1")
        append_entry("tiny", replace(JUDGED, receipt="r9"), 0, "")
        with pytest.raises(LedgerBroken, match=r"no entry in common.* another project, .* register\.model_name"):
            follow_remote("tiny", "origin")


def test_entries_from_before_the_setting_are_pushed_with_the_next_one(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        user("tag", "tiny@v1")
        append_entry("tiny", JUDGED, 0, "")
        assert not follow_remote("tiny", "origin")
        promote(1)
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        assert entries() == [("judged", 1), ("promoted", 1)]


def test_killed_between_the_remote_and_this_clone_the_next_command_takes_the_entry(
    machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with chdir(machines[0]):
        judge(1)
        with monkeypatch.context() as patch:
            patch.setattr(git, "move_ref", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                promote(1)
        assert entries() == [("judged", 1)]
        follow_remote("tiny", "origin")
        assert entries() == [("judged", 1), ("promoted", 1)]


def test_an_entry_that_another_process_of_the_clone_took_from_the_remote_first_is_recorded_once(
    machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with chdir(machines[0]):
        judge(1)

        def then_another_process_reads(model: str, remote: str, commit: str) -> None:
            publish(model, remote, commit)
            follow_remote(model, remote)

        monkeypatch.setattr(ledger, "publish", then_another_process_reads)
        promote(1)
        assert entries() == [("judged", 1), ("promoted", 1)]


def test_two_processes_of_a_clone_may_take_the_same_entries_at_once(
    machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with chdir(machines[0]):
        judge(1)
    with chdir(machines[1]):
        real = git_remote.fetch_objects

        def another_first(remote: str, refs: list[str]) -> None:
            monkeypatch.setattr(git_remote, "fetch_objects", real)
            follow_remote("tiny", "origin")
            real(remote, refs)

        monkeypatch.setattr(git_remote, "fetch_objects", another_first)
        follow_remote("tiny", "origin")
        assert entries() == [("judged", 1)]


def test_an_entry_that_another_machine_appends_while_the_registry_is_read_is_not_missed(
    machines: tuple[Path, Path],
) -> None:
    with chdir(machines[0]):
        judge(1)

    def anchors() -> dict[int, set[str]]:  # the registry's tags name an entry that was appended a moment before
        with chdir(machines[0]):
            promote(1)
            return {1: {str(git.resolve("refs/strop/ledger/tiny"))}}

    with chdir(machines[1]):
        registry: Any = SimpleNamespace(model="tiny", anchors=anchors)
        assert [node.entry.kind for node in read_anchored(registry, "origin")] == ["judged", "promoted"]


def test_a_look_at_the_registry_takes_the_entries_that_it_names_and_connects_for_no_others(
    machines: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with chdir(machines[0]):
        judge(1)
        promote(1)
        anchors = {1: {str(git.resolve("refs/strop/ledger/tiny"))}}
    with chdir(machines[1]):
        follow_if_behind("tiny", "", anchors)
        assert entries() == []
        follow_if_behind("tiny", "origin", anchors)
        assert entries() == [("judged", 1), ("promoted", 1)]
        (machines[0].parent / "shared.git").rename(machines[0].parent / "away.git")
        follow_if_behind("tiny", "origin", anchors)
        assert "which may be older" not in caplog.text


def test_an_entry_that_the_remote_has_is_not_pushed_again_and_no_branch_is(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        judge(1)
        user("branch", "private")
        before = git_remote.list_refs("origin")
        publish("tiny", "origin", str(git.resolve("refs/strop/ledger/tiny")))
        assert git_remote.list_refs("origin") == before
        assert git.refs_below() == {}


def test_a_verdict_that_the_remote_took_although_its_answer_was_lost_is_not_withdrawn(
    machines: tuple[Path, Path],
) -> None:
    with chdir(machines[0]):
        judge(1)
        registry, before_the_look = SimpleNamespace(model="tiny"), {"looks": 0, "test_epoch": 1}
        commit = stage._append(registry, JUDGED, before_the_look, "origin")  # type: ignore[arg-type]
        assert commit == git.resolve("refs/strop/ledger/tiny")
        assert entries() == [("judged", 1)]


def test_a_version_that_a_killed_registration_left_is_withdrawn_when_others_were_judged_first(
    machines: tuple[Path, Path],
) -> None:
    deleted: list[int] = []
    aliases: dict[str, int] = {}
    registry: Any = SimpleNamespace(
        model="tiny",
        find_version=lambda tag, value: SimpleNamespace(version=2, tags={}) if value == "r2" else None,
        delete_version=deleted.append,
        versions=lambda: [SimpleNamespace(version=1, tags={})],
        set_alias=aliases.__setitem__,
    )
    with chdir(machines[0]):
        judge(1)
        user("tag", "tiny@v2")
        withdraw_unjudged(registry, "another")
        assert deleted == []
        withdraw_unjudged(registry, "r2")
        assert (deleted, aliases, git.resolve("refs/tags/tiny@v2")) == ([2], {"challenger": 1}, None)
        withdraw_unjudged(registry, "r2")  # as after a kill between git and the registry


def test_without_an_answer_nothing_is_appended_and_reading_goes_on(
    machines: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with chdir(machines[0]):
        judge(1)
        (machines[0].parent / "shared.git").rename(machines[0].parent / "away.git")
        with pytest.raises(
            git_remote.RemoteUnreachable, match=r"the git remote origin: .*does not appear to be a git repository"
        ):
            promote(1)
        follow_if_possible("tiny", "origin")
        assert "this clone's ledger is used" in caplog.text
        assert entries() == [("judged", 1)]


def test_the_check_before_a_run_tries_the_remote_and_pushes_nothing(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        git_remote.require_writable("origin")
        assert git_remote.list_refs("origin", "refs/strop/*") == {}
        with pytest.raises(git_remote.RemoteUnreachable, match=r"the git remote elsewhere: .*does not appear to be"):
            git_remote.require_writable("elsewhere")


def test_a_refusal_by_the_server_is_reported_with_its_words(machines: tuple[Path, Path]) -> None:
    hook = machines[0].parent / "shared.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 只读 >&2\nexit 1\n")
    hook.chmod(0o755)
    with chdir(machines[0]):
        with pytest.raises(git_remote.RemoteUnreachable, match="pre-receive hook declined"):
            judge(1)
        assert git.resolve("refs/strop/ledger/tiny") is None


def test_history_has_the_second_at_which_a_version_was_replaced() -> None:
    first = replace(JUDGED, kind="promoted", when="2026-11-21T08:00:00+00:00")
    second = replace(JUDGED, kind="promoted", version=2, when="2026-11-22T09:10:11+00:00")
    back = replace(JUDGED, kind="rolled_back", when="2026-11-23T01:02:03+00:00")
    rejected = replace(JUDGED, kind="rejected", version=2, when="2026-11-24T00:00:00+00:00")
    assert served_until([JUDGED, first, second, back, rejected]) == [None, second.when, back.when, None, None]


def test_the_last_head_file_is_not_needed(machines: tuple[Path, Path]) -> None:
    with chdir(machines[0]):
        judge(1)
        (paths.CACHE / "ledger.json").unlink()
        promote(1)
        assert entries() == [("judged", 1), ("promoted", 1)]
