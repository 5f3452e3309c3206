"""A person's decision about a candidate: approved, rejected, or too late; derived from the ledger, without a process that waits."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import toyworld
from support.toyworld import git as user
from support.toyworld import set_params

from flows.approval import FlowResult, result_of
from flows.cli import main
from flows.promotion_decision import deliver
from flows.report.status import read_status
from flows.report.summary import read_summary
from flows.return_to_champion import follow_ledger
from tasks.audit.stage import audit
from tasks.config import load_config
from tasks.errors import RegistryError, StropError
from tasks.model_store.approvals import CARD
from tasks.model_store.ledger import Entry, LedgerMoved, champion_version, read_ledger
from tasks.promote import approval, candidates, stage
from tasks.promote.approval import approve, reject
from tasks.promote.candidates import NotPromotable, as_time, undecided, waiting_candidates
from tasks.promote.settings import PromoteSettings
from tasks.promote.stage import promote, rollback
from tasks.register.stage import Registration
from tasks.tracking.registry import Registry, open_registry
from tasks.vcs import git

pytestmark = pytest.mark.usefixtures("warm")

PASSED = Registration(2, "passed", receipt="", is_new=False)
JUDGED = Entry("judged", 1, "w" * 64, "r1", "v" * 64, "d.dir", True, 1, 100, "ada", "2026-11-21T08:00:00+00:00", "好")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 passed the gate against version 1, and waits."""
    root = toyworld.stand_in("serving", tmp_path, monkeypatch)
    set_params(seed=2, promote={"approval": "required"})
    return root


def pass_days(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Moves the clock that approvals are compared with."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=days)

    monkeypatch.setattr(candidates, "datetime", Later)
    monkeypatch.setattr("flows.promotion_decision.datetime", Later)


def decisions() -> list[tuple[str, int, str, str]]:
    """The decisions on version 2."""
    return [(e.kind, e.version, e.who, e.why) for e in read_ledger("tiny") if e.version == 2 and e.kind != "judged"]


def test_what_waits_follows_from_the_ledger_alone() -> None:
    noon = datetime(2026, 11, 28, 8, tzinfo=UTC)
    entries = [replace(JUDGED, version=v, passed=v != 3) for v in range(1, 6)]
    entries += [replace(JUDGED, kind="promoted"), replace(JUDGED, kind="rejected", version=2)]
    assert [each.version for each in undecided(entries, None, noon)] == [4, 5]
    (first, _) = undecided(entries, 8, noon)
    assert (first.until, first.is_expired) == ("2026-11-29T08:00:00+00:00", False)
    assert as_time(first.until) == "2026-11-29 08:00 UTC"
    assert all(each.is_expired for each in undecided(entries, 7, noon)), "not even in its last second"
    (other,) = undecided([replace(JUDGED, when="2026-11-21T23:00:00+08:00")], 7, noon)
    assert (other.until, other.is_expired) == ("2026-11-28T15:00:00+00:00", False)
    assert undecided([replace(JUDGED, when="昨天")], 7, noon)[0].is_expired


@pytest.mark.parametrize(("old", "new"), [(True, "none"), (False, "required")])
def test_a_setting_of_an_earlier_release_keeps_its_meaning(old: bool, new: str) -> None:
    settings = PromoteSettings.model_validate_json(json.dumps({"automatic": old}))
    assert settings == PromoteSettings.model_validate_json(json.dumps({"approval": new}))
    with pytest.raises(ValueError, match="automatic"):
        PromoteSettings.model_validate_json(json.dumps({"automatic": old, "approval": new}))


def test_a_run_ends_as_waiting_and_says_until_when_and_how_to_decide(world: Path) -> None:
    config = load_config()
    outcome = deliver(config, PASSED)
    (candidate,) = waiting_candidates(config, read_ledger("tiny"))
    assert (outcome.kind, outcome.exit_code, outcome.champion) == ("waiting", 0, 1)
    assert outcome.until == candidate.until
    for words in (as_time(candidate.until), "strop approve 2 --why", "strop reject 2 --why", "version 1 serves"):
        assert words in outcome.message
        assert words in " ".join(read_status(config).lines()) or words == "version 1 serves"
    commands = [command for command, _ in read_summary(config).next_commands]
    assert commands[:2] == ['strop approve 2 --why "…"', 'strop reject 2 --why "…"']
    assert decisions() == []


def test_an_approval_promotes_and_the_second_person_learns_who_was_first(world: Path) -> None:
    entry = approve(load_config(), 2, why="我读过五十个回答", who="李雷")
    assert decisions() == [("promoted", 2, "李雷", "我读过五十个回答")]
    assert open_registry(load_config()).alias("champion") == 2
    assert approve(load_config(), 2, why="我读过五十个回答", who="李雷") == entry, "the same call completes it"
    with pytest.raises(LedgerMoved, match=r"does not wait for approval: promoted by 李雷 on .*: 我读过五十个回答"):
        approve(load_config(), 2, why="fine", who="ada")
    with pytest.raises(LedgerMoved, match="does not wait for approval: promoted by 李雷"):
        reject(load_config(), 2, why="it invents dates", who="ada")
    rollback(load_config(), why="complaints", expected_champion=2)
    assert waiting_candidates(load_config(), read_ledger("tiny")) == []
    with pytest.raises(LedgerMoved, match="does not wait for approval: promoted by 李雷"):  # it does not serve any more
        approve(load_config(), 2, why="我读过五十个回答", who="李雷")
    promote(load_config(), 2, why="it was not the model", expected_champion=1)


def test_a_rejection_is_recorded_everywhere_and_only_force_promotes_the_version(
    world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "set_version_tags", die)
        with pytest.raises(Killed):
            reject(load_config(), 2, why="它编造日期", who="ada")
    entry = reject(load_config(), 2, why="它编造日期", who="ada")
    assert decisions() == [("rejected", 2, "ada", "它编造日期")]
    registry = open_registry(load_config())
    assert (registry.alias("champion"), registry.alias("challenger")) == (1, None)
    version = registry.version(2)
    assert version.tags["strop.promoted"] == entry.approval
    card = registry.download_file(version.run_id, CARD, tmp_path).read_text(encoding="utf-8")
    for text in (version.description, card):
        assert f"- rejected by ada on {entry.when}: 它编造日期" in text
    assert all(link.ok is not False for link in audit(load_config(), 2))
    assert deliver(load_config(), PASSED).kind == "rejected"
    assert read_status(load_config()).waiting == []
    with pytest.raises(LedgerMoved, match="does not wait for approval: rejected by ada"):
        approve(load_config(), 2, why="fine", who="李雷")
    with pytest.raises(NotPromotable, match=r"v2 was rejected by ada on .* --force --why"):
        promote(load_config(), 2, why="fine", expected_champion=1)
    promote(load_config(), 2, why="the dates were right", expected_champion=1, force=True)
    assert champion_version(read_ledger("tiny")) == 2


def test_an_expired_approval_is_reported_once_and_needs_a_new_verdict_or_force(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follow_ledger(load_config())
    assert "expired" not in caplog.text
    pass_days(monkeypatch, 8)
    for _ in range(2):
        follow_ledger(load_config())
    assert caplog.text.count("v2 passed the gate, but its approval expired on") == 1
    (line,) = [line for line in read_status(load_config()).lines() if "expired" in line]
    assert "strop run --rejudge" in line
    outcome = deliver(load_config(), PASSED)
    assert (outcome.kind, "expired on" in outcome.message) == ("expired", True)
    with pytest.raises(NotPromotable, match=r"its approval expired on .* strop run --rejudge; or strop promote 2 --f"):
        approve(load_config(), 2, why="fine")
    with pytest.raises(NotPromotable, match="expired"):
        promote(load_config(), 2, why="fine", expected_champion=1)
    set_params(seed=2, promote={"approval": "required", "approval_days": 9})
    assert not waiting_candidates(load_config(), read_ledger("tiny"))[0].is_expired
    set_params(seed=2, promote={"approval": "none"})
    assert deliver(load_config(), PASSED).kind == "promoted", "nobody has to approve it"


@pytest.mark.parametrize("loser", ["approve", "reject"])
def test_of_two_decisions_at_once_one_is_recorded_and_the_other_learns_by_whom(
    world: Path, monkeypatch: pytest.MonkeyPatch, loser: str
) -> None:
    module: Any = {"approve": stage, "reject": approval}[loser]
    real = module.append_entry

    def other_first(*arguments: Any) -> str:
        monkeypatch.setattr(module, "append_entry", real)
        {"approve": reject, "reject": approve}[loser](load_config(), 2, why="mine", who="李雷")
        return str(real(*arguments))

    monkeypatch.setattr(module, "append_entry", other_first)
    with pytest.raises(LedgerMoved, match=r"does not wait for approval: .* by 李雷 on .*: mine"):
        {"approve": approve, "reject": reject}[loser](load_config(), 2, why="no, mine", who="ada")
    assert [(who, why) for _, _, who, why in decisions()] == [("李雷", "mine")]


def test_a_rejection_is_pushed_with_a_shared_ledger_which_decides(world: Path) -> None:
    user("init", "-q", "--bare", "../shared.git")
    user("remote", "add", "origin", "../shared.git")
    config = load_config()
    shared = config.model_copy(update={"register_": config.register_.model_copy(update={"ledger_remote": "origin"})})
    reject(shared, 2, why="它编造日期", who="ada")
    ref = "refs/strop/ledger/tiny"
    assert user("ls-remote", "origin", ref).split()[0] == git.resolve(ref)
    before = user("rev-parse", f"{ref}~1").strip()
    user("update-ref", ref, before)  # as in a clone that has not fetched it
    Path(".strop/ledger.json").unlink()
    with pytest.raises(LedgerMoved, match="does not wait for approval: rejected by ada"):
        approve(shared, 2, why="fine", who="李雷")


def test_a_decision_needs_a_reason_and_a_version_that_waits(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    for command in ("approve", "reject"):
        assert main.run([command, "2", "--why", " "]) == 2
        assert main.run([command, "9", "--why", "fine"]) == 1
    assert main.run(["reject", "2", "--why", "it invents dates"]) == 0
    assert main.run(["approve", "2", "--why", "fine"]) == 1, "before a Prefect server starts"
    assert "does not wait for approval: rejected by" in caplog.text


@pytest.mark.parametrize("decide", [approve, reject])
def test_a_decision_by_prefects_form_needs_a_reason_too(decide: Any) -> None:
    with pytest.raises(RegistryError, match="a decision needs a reason"):
        decide(SimpleNamespace(), 2, why=" 　", who="李雷")


def test_a_long_name_of_the_form_fits_into_a_tag() -> None:
    entry = replace(JUDGED, kind="promoted", who="李" * 9000, why="好" * 9000)
    assert len(entry.approval) < 700


def test_the_same_command_completes_an_approval_that_was_killed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "reconcile", lambda config: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve(load_config(), 2, why="fine")
    assert open_registry(load_config()).alias("champion") == 1

    def in_this_process(version: int, why: str, who: str) -> FlowResult:
        return FlowResult(version, "Promoted", approve(load_config(), version, why, who).approval)

    monkeypatch.setattr("flows.approval.promote_by_flow", in_this_process)
    assert main.run(["approve", "2", "--why", "fine"]) == 0
    assert open_registry(load_config()).alias("champion") == 2
    assert [kind for kind, *_ in decisions()] == ["promoted"]


def test_a_run_of_the_deployment_reports_its_end_in_one_line() -> None:
    from prefect.states import Completed, Failed, Scheduled

    def run(state: Any) -> Any:
        return SimpleNamespace(name="calm-hare", state=state)

    done = result_of(run(Completed(name="Promoted", message="Version 2 is now champion: …")), 2)
    assert done == FlowResult(2, "Promoted", "Version 2 is now champion: …", "calm-hare")
    failed = Failed(message="Flow run encountered an exception: NotPromotable: tiny v2 was rejected by ada.")
    with pytest.raises(
        StropError, match=r"^the flow run calm-hare of promote/approval: tiny v2 was rejected by ada\. "
    ):
        result_of(run(failed), 2)
    waits = result_of(run(Scheduled()), 2)
    assert waits.state == "Scheduled"
    assert "calm-hare will promote version 2: it is scheduled. It needs a worker" in waits.message
