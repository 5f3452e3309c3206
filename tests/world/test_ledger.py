"""The ledger: append-only, compare-and-swap, its champions and looks."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import REPOSITORY
from support.toyworld import git as user

from tasks.errors import GitError
from tasks.model_store.ledger import (
    Entry,
    LedgerMoved,
    aliases_of,
    append_entry,
    budget_of,
    champion_of,
    champions_of,
    counts_all,
    judgement_of,
    read_ledger,
)
from tasks.model_store.ledger_entries import decision_of, rejected_versions
from tasks.state.alpha_spending import next_share, restored
from tasks.state.round import Round
from tasks.vcs import git

ENTRY = Entry(
    "judged",
    1,
    "w" * 64,
    "r" * 64,
    "v" * 64,
    "d.dir",
    True,
    1,
    100,
    "ada",
    "2026-11-21T00:00:00+00:00",
    "通过了；“all” checks\n\nand more",
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    user("init", "-q")
    Path(".gitignore").write_text("/.strop/\n")  # as every project has
    user("add", "-A")
    user("commit", "-q", "-m", "Start")
    for version in range(1, 6):  # what passed has a tag, or the ledger does not follow
        user("tag", f"tiny@v{version}")
    return tmp_path


def entry(kind: str, version: int, test_rows: int = 100) -> Entry:
    return replace(ENTRY, kind=kind, version=version, test_rows=test_rows)  # type: ignore[arg-type]


def test_an_entry_is_read_as_it_was_written(repository: Path) -> None:
    assert read_ledger("tiny") == []
    append_entry("tiny", ENTRY, expected_length=0, remote="")
    append_entry("tiny", entry("promoted", 1), expected_length=1, remote="")
    assert read_ledger("tiny") == [ENTRY, entry("promoted", 1)]
    assert read_ledger("other") == []
    assert user("status", "--porcelain") == ""


def test_an_entry_on_an_unexpected_length_is_refused(repository: Path) -> None:
    append_entry("tiny", ENTRY, expected_length=0, remote="")
    with pytest.raises(LedgerMoved, match="has 1 entries, not 0"):
        append_entry("tiny", entry("judged", 2), expected_length=0, remote="")
    assert len(read_ledger("tiny")) == 1


def test_of_two_writers_at_the_same_moment_one_wins(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_entry("tiny", ENTRY, expected_length=0, remote="")
    real = git.move_ref

    def another_first(ref: str, new: str, expected: str | None) -> None:
        monkeypatch.setattr(git, "move_ref", real)
        append_entry("tiny", entry("judged", 2), expected_length=1, remote="")
        real(ref, new, expected)

    monkeypatch.setattr(git, "move_ref", another_first)
    with pytest.raises(LedgerMoved):
        append_entry("tiny", entry("judged", 3), expected_length=1, remote="")
    assert [e.version for e in read_ledger("tiny")] == [1, 2]


def test_of_many_processes_exactly_one_appends(repository: Path) -> None:
    code = (
        "import sys\nfrom tasks.model_store.ledger import Entry, LedgerMoved, append_entry\n"
        "e = Entry('judged', int(sys.argv[1]), 'w', 'r', 'v', 'd', True, 1, 9, 'a', 'b', 'c')\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "try:\n    append_entry('tiny', e, 0, '')\nexcept LedgerMoved:\n    sys.exit(3)\n"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen([*command, str(n)], **pipes, env=environment, text=True) for n in range(1, 6)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 3, 3, 3, 3], errors
    assert len(read_ledger("tiny")) == 1


def test_a_tampered_ledger_is_reported(repository: Path) -> None:
    git.move_ref("refs/strop/ledger/tiny", git.head_commit(), expected=None)
    with pytest.raises(GitError, match="no entry"):
        read_ledger("tiny")


def test_champions_stack_and_roll_back() -> None:
    entries = [entry("judged", 1), entry("promoted", 1), entry("promoted", 2), entry("promoted", 3)]
    assert [e.version for e in champions_of(entries)] == [1, 2, 3]
    entries.append(entry("rolled_back", 2))
    assert champion_of(entries) == entry("rolled_back", 2)
    entries.append(entry("rolled_back", 1))
    assert [e.version for e in champions_of(entries)] == [1]
    entries.append(entry("promoted", 3))
    assert [e.version for e in champions_of(entries)] == [1, 3]


def test_no_champion_before_the_first_promotion() -> None:
    assert champion_of([]) is None
    assert champion_of([entry("judged", 1)]) is None
    assert judgement_of([entry("judged", 1)], 2) is None


def test_a_rejection_leaves_the_champion_and_the_looks_and_ends_the_challenge(repository: Path) -> None:
    judged = [entry("judged", 1), entry("promoted", 1), entry("judged", 2)]
    entries = [*judged, entry("rejected", 2)]
    for number, each in enumerate(entries):
        append_entry("tiny", each, expected_length=number, remote="")
    assert read_ledger("tiny") == entries
    assert champion_of(entries) == champion_of(judged)
    assert budget_of(entries) == budget_of(judged)
    assert aliases_of(judged) == {"champion": 1, "challenger": 2}
    assert aliases_of(entries) == {"champion": 1, "challenger": None}
    assert decision_of(judged, 2) is None
    assert decision_of(entries, 2) == entries[-1]
    user("tag", "-d", "tiny@v2")  # nobody needs the tag of a rejected version
    assert read_ledger("tiny") == entries
    assert rejected_versions([*entries, entry("promoted", 2)]) == set()  # a person changed their mind


@pytest.mark.parametrize(
    ("version", "message"), [(1, "rejects the version that serves"), (3, "no entry before it judged")]
)
def test_only_a_judged_version_that_does_not_serve_can_be_rejected(
    repository: Path, version: int, message: str
) -> None:
    for number, each in enumerate([entry("judged", 1), entry("promoted", 1), entry("rejected", version)]):
        append_entry("tiny", each, expected_length=number, remote="")
    with pytest.raises(GitError, match=message):
        read_ledger("tiny")


def test_looks_are_counted_until_the_test_rows_have_doubled() -> None:
    assert budget_of([]) == (1, 0, 0, 0)
    assert budget_of([entry("judged", 1, 100), entry("promoted", 1, 100), entry("judged", 2, 150)])[:2] == (1, 2)
    assert budget_of([entry("judged", 1, 100), entry("judged", 2, 200)])[:2] == (2, 1)
    assert budget_of([entry("judged", 1, 100), entry("judged", 2, 200), entry("judged", 3, 399)])[:2] == (2, 2)


def test_verdicts_on_the_same_rows_spend_1_2_1_6_1_12_of_alpha() -> None:
    for looks in range(1, 20):
        spent = budget_of([entry("judged", number, 100) for number in range(looks)]).alpha_spent
        assert (
            spent
            == pytest.approx(sum(1 / (k * (k + 1)) for k in range(1, looks + 1)))
            == pytest.approx(1 - 1 / (looks + 1))
        )


def test_fresh_test_rows_restore_what_verdicts_have_spent() -> None:
    def spent(*rows: int) -> float:
        return budget_of([entry("judged", number, count) for number, count in enumerate(rows)]).alpha_spent

    assert spent(100, 200) == spent(100) == 0.5, "a doubling restores all"
    assert spent(100, 110) == pytest.approx(restored(0.5, 110, 100) + next_share(restored(0.5, 110, 100)))
    assert spent(100, 110) < spent(100, 100) == pytest.approx(2 / 3)
    assert spent(100, 50, 100) == spent(100, 100, 100), "rows that were removed and came back are not fresh"


@given(st.lists(st.integers(min_value=1, max_value=10_000), min_size=1, max_size=40))
def test_every_doubling_of_the_test_set_allows_at_most_one_more_alpha(rows: list[int]) -> None:
    entries = [entry("judged", number, count) for number, count in enumerate(rows)]
    levels, most = 0.0, 0
    for number, count in enumerate(rows):
        budget = budget_of(entries[:number])
        levels += next_share(restored(budget.alpha_spent, count, budget.most_rows))
        most = max(most, count)
    assert levels <= 1 + math.log2(most / rows[0]) + 1e-9


@given(st.lists(st.integers(min_value=0, max_value=500), max_size=30))
def test_an_epoch_never_goes_back_and_a_look_is_never_forgotten(rows: list[int]) -> None:
    entries = [entry("judged", n, count) for n, count in enumerate(rows)]
    before = (1, 0)
    for end in range(1, len(entries) + 1):
        epoch, looks, *_ = budget_of(entries[:end])
        assert (epoch, looks) in ((before[0], before[1] + 1), (before[0] + 1, 1))
        before = (epoch, looks)


def test_a_round_counts_every_verdict_or_would_spend_its_level_twice() -> None:
    entries = [entry("judged", number, 100) for number in range(3)]
    rounds = [asdict(Round(None, *budget_of(entries[:count]))) for count in range(4)]
    assert [counts_all(each, entries) for each in rounds] == [False, False, False, True]
    assert counts_all(rounds[3], entries[:2]), "one that counts more is as strict as it must be"
    earlier = {"test_epoch": 1, "looks": 3}  # a round of an earlier release
    assert counts_all(earlier, entries)
    assert not counts_all({**rounds[3], "alpha_spent": 0.0}, entries), "edited by hand"
