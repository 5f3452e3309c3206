"""A canary in the ledger: which versions may have one, when it ends, and what follows from its entries."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.shared_repository import clones_of_one_repository

from tasks.model_store.approvals import approvals_of
from tasks.model_store.canaries import CanaryPlan, canary_of, plan_of
from tasks.model_store.ledger import Entry, LedgerMoved, aliases_of, append_entry, budget_of, champion_of, read_ledger
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_entries import decision_of, may_retire, rejected_versions, served_until
from tasks.model_store.ledger_remote import follow_remote
from tasks.model_store.ledger_rules import order_findings
from tasks.promote.candidates import undecided
from tasks.retention.needed import Uses, needed_versions
from tasks.vcs import git, git_remote

PLAN = CanaryPlan(champion=1, share=0.1)


def entry(kind: str, version: int, outcome: str = "passed", details: str = "") -> Entry:
    fields: dict[str, Any] = {"receipt": f"r{version}", "verdict": "v" * 64, "weights_digest": "w" * 64}
    return Entry(
        kind=kind,  # type: ignore[arg-type]
        version=version, dataset="d.dir", passed=outcome == "passed", test_epoch=1, test_rows=9, who="安",
        when="2026-11-30T08:00:00", why="因为 because", outcome=outcome, details=details, **fields,
    )  # fmt: skip


def canary(version: int, outcome: str = "passed", **changes: Any) -> Entry:
    return entry("canary", version, outcome, replace(PLAN, **changes).text)


def ended(version: int, decision: str = "stopped", outcome: str = "passed") -> Entry:
    return entry("canary_ended", version, outcome, json.dumps({"decision": decision}))


def chain_of(*entries: Entry) -> list[ChainNode]:
    return [ChainNode(f"{number:040x}", each) for number, each in enumerate(entries)]


def findings(*entries: Entry) -> list[str]:
    return [finding.what.partition(") ")[2] for finding in order_findings(chain_of(*entries))]


SERVING = (entry("judged", 1), entry("promoted", 1))
START = (*SERVING, entry("judged", 2))


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ((*START, canary(2)), ""),
        ((*SERVING, entry("judged", 2, "inconclusive"), canary(2, "inconclusive", level=0.01)), ""),
        ((*START, canary(2), ended(2), canary(2)), ""),
        ((*START, canary(2), entry("promoted", 2, details='{"harm": 1}')), ""),
        ((*START, canary(3)), "is about a version that no entry before it judged"),
        ((entry("judged", 2), canary(2)), "begins a canary where no version serves"),
        ((*START, canary(1)), "begins a canary of the version that serves"),
        ((*START, entry("judged", 3), canary(2), canary(3)), "begins a canary while that of v2 runs"),
        ((*START, entry("rejected", 2), canary(2)), "begins a canary of a version that was refused or rejected"),
        ((*START, canary(2), ended(2, "taken_back"), canary(2)), "begins a canary of a version that was refused or rejected"),
        ((*SERVING, entry("judged", 2, "refused"), canary(2, "refused")),
         "begins a canary of a version that was refused or rejected"),
        ((*START, canary(2, champion=3)), "compares its canary with v3, but v1 serves"),
        ((*START, canary(2, level=0.01), ended(2), canary(2, level=0.01)), "uses the level of the look at v2 a second time"),
        ((*START, canary(2, share=1.5)), "has no valid plan of its canary"),
        ((*START, entry("canary", 2, details="[")), "has no valid plan of its canary"),
        ((*START, ended(2)), "ends a canary of v2, but that of no version runs"),
        ((*START, canary(2), entry("canary_ended", 2)), "has no decision about its canary"),
        ((*START, entry("promoted", 2, details='{"harm": 1}')), "has the numbers of a canary that does not run"),
        ((*SERVING, entry("judged", 2, "inconclusive"), canary(2, "inconclusive", level=0.01), entry("retired", 2, "inconclusive")),
         "retires a version that passed the gate, or has served, or has a canary"),
    ],
)  # fmt: skip
def test_the_ledger_accepts_only_a_canary_that_can_be_compared(entries: tuple[Entry, ...], problem: str) -> None:
    assert findings(*entries) == ([problem] if problem else [])


@pytest.mark.parametrize(
    "end",
    [ended(2), entry("promoted", 2), entry("rejected", 2), entry("promoted", 3), entry("rolled_back", 1)],
    ids=lambda each: f"{each.kind} v{each.version}",
)
def test_a_canary_ends_with_a_decision_about_it_or_another_champion(end: Entry) -> None:
    before = (*START, entry("judged", 3), canary(2))
    running = canary_of(chain_of(*before, entry("judged", 4)))
    assert running is not None
    assert (running.version, running.plan, running.id) == (2, PLAN, f"{4:040x}")
    assert canary_of(chain_of(*before, end)) is None


def test_a_canary_decides_nothing_until_it_is_taken_back() -> None:
    running, back = [*START, canary(2)], [*START, canary(2), ended(2, "taken_back")]
    for entries in (running, [*running, ended(2, "undecided")]):
        assert decision_of(entries, 2) is None
        assert [each.version for each in undecided(entries, None, datetime.now(UTC))] == [2]
        assert aliases_of(entries) == {"champion": 1, "challenger": 2}
        assert approvals_of(entries, 2) == []
        assert not rejected_versions(entries)
        assert served_until(entries) == [None] * len(entries)
        assert champion_of(entries) == entry("promoted", 1)
        assert budget_of(entries) == budget_of(list(START))
    assert rejected_versions(back) == {2}
    assert undecided(back, None, datetime.now(UTC)) == []
    assert aliases_of(back) == {"champion": 1, "challenger": None}
    assert approvals_of(back, 2) == ["taken back by 安 on 2026-11-30T08:00:00: 因为 because"]
    assert not rejected_versions([*back, entry("promoted", 2)]), "with --force"


def test_retention_keeps_a_version_with_a_canary() -> None:
    entries = [*SERVING, entry("judged", 2, "inconclusive"), canary(2, "inconclusive", level=0.01)]
    assert not may_retire(entries, 2)
    assert needed_versions(Uses(entries), 0)[2] == "has a canary"
    assert may_retire([*entries, ended(2, "undecided", "inconclusive")], 2)
    assert 2 not in needed_versions(Uses([*entries, ended(2, "undecided", "inconclusive")]), 0)


def test_a_plan_is_read_as_it_was_written_also_with_fields_of_a_later_release() -> None:
    plan = CanaryPlan(1, 0.25, "user", 0.0125, 0.05, 0.03, 400, 7.0, 0.5, 3)
    assert plan_of(entry("canary", 2, details=plan.text)) == plan
    assert plan_of(entry("canary", 2, details=json.dumps({**asdict(plan), "later": 1}))) == plan
    wrong = {"share": "0.1", "by": "moon", "alpha": 0, "days": float("nan"), "per_user": 0, "champion": True}
    for name, value in wrong.items():
        assert plan_of(entry("canary", 2, details=json.dumps({**asdict(plan), name: value}))) is None, name


def test_entries_without_a_canary_are_those_of_earlier_releases() -> None:
    """`{**fields}` of an earlier release has no `details`: it could not read an entry that has them."""
    assert "details" not in entry("judged", 1).stored()
    assert canary(2).stored()["details"] == PLAN.text


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Path, Path]:
    """Two clones of one repository, where v1 serves and v2 and v3 passed."""
    one, two = clones_of_one_repository(tmp_path, "one", "two")
    return one, two


def test_of_two_clones_that_begin_a_canary_at_once_one_succeeds(
    machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(machines[0])
    for each in (*START, entry("judged", 3)):
        git.make_ref(f"refs/tags/tiny@v{each.version}", git.head_commit())
        append_entry("tiny", each, len(read_ledger("tiny")), "origin")
    monkeypatch.chdir(machines[1])
    follow_remote("tiny", "origin")
    real = git_remote.push_refs

    def another_first(remote: str, refs: dict[str, str]) -> None:  # after this machine has looked at the remote
        monkeypatch.setattr(git_remote, "push_refs", real)
        with monkeypatch.context() as context:
            context.chdir(machines[0])
            append_entry("tiny", canary(2), 4, "origin")
        real(remote, refs)

    monkeypatch.setattr(git_remote, "push_refs", another_first)
    with pytest.raises(LedgerMoved, match="another machine appended to it first"):
        append_entry("tiny", canary(3), 4, "origin")
    follow_remote("tiny", "origin")
    running = canary_of(read_verified("tiny"))
    assert running is not None
    assert (running.version, running.id) == (2, git.resolve("refs/strop/ledger/tiny"))
