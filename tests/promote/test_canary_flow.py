"""The controller of a canary: each step is one ledger entry, of two controllers one writes, and nobody is promoted unasked."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from support.toyworld import git as user

from flows import canary as controller
from flows.cli import main
from flows.promotion_decision import deliver
from flows.report.status import ProjectStatus
from tasks import paths
from tasks.errors import RegistryError, SigningError
from tasks.feedback.spool import SpoolWriter
from tasks.model_store.canaries import Canary, CanaryPlan, canary_of
from tasks.model_store.ledger import Entry, LedgerMoved, append_entry, champion_version, read_ledger
from tasks.model_store.ledger_check import read_verified
from tasks.promote import canary as canaries
from tasks.promote import candidates, stage
from tasks.promote.candidates import NotPromotable
from tasks.promote.settings import PromoteSettings
from tasks.register.stage import Registration
from tasks.runtime.files import write_json
from tasks.serve.settings import ServeSettings
from tasks.tracking.tags import LEDGER_TAG, PROMOTED_TAG

PLAN = CanaryPlan(champion=0, share=0.5, days=3.0, settle_hours=0.0, after_ratings=60)
JUDGED = Entry(
    "judged", 1, "w" * 64, "r1", "v" * 64, "d", True, 1, 9, "安", "2026-11-21T08:00:00+00:00", "好", "", "passed"
)
TINY: Any = SimpleNamespace(
    register_=SimpleNamespace(model_name="tiny", ledger_remote=""),
    signing=SimpleNamespace(require=(), key=None),
    promote=PromoteSettings(),
    gate=SimpleNamespace(alpha=0.04),
    serve=ServeSettings(),
)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A ledger alone: v1 serves, v2 passed, v3 is inconclusive with a level for a canary, v4 was refused. The list has the calls
    of the registry."""
    monkeypatch.chdir(tmp_path)
    user("init", "-q")
    Path(".gitignore").write_text("/.strop/\n")
    user("add", "-A")
    user("commit", "-q", "-m", "Start")
    registry = SimpleNamespace(model="tiny", version=int, require_writable=int, anchors=dict)
    calls: list[str] = []
    for module in (canaries, stage):
        monkeypatch.setattr(module, "open_registry", lambda _: registry)
        monkeypatch.setattr(module, "reconcile", lambda _: calls.append("reconcile"))
    receipt = {"verdict": {"champion_version": 1, "canary_level": 0.0125}}
    for module in (canaries, candidates):
        monkeypatch.setattr(module, "version_receipt", lambda _, version: receipt if version == 3 else None)
    record("judged", 1, "passed")
    record("promoted", 1, "passed")
    for version, outcome in ((2, "passed"), (3, "inconclusive"), (4, "refused")):
        record("judged", version, outcome)
    return calls


def record(kind: Any, version: int, outcome: str) -> None:
    user("tag", "--force", f"tiny@v{version}")
    values: dict[str, Any] = {"receipt": f"r{version}", "passed": outcome == "passed", "outcome": outcome}
    append_entry("tiny", replace(JUDGED, kind=kind, version=version, **values), len(read_ledger("tiny")), "")


def newest() -> tuple[str, int, Any]:
    entry = read_ledger("tiny")[-1]
    return entry.kind, entry.version, entry.read_details().get("decision")


def records(canary: Canary, of_champion: float, of_canary: float, count: int = 60) -> list[dict[str, Any]]:
    """Half of the units in each arm, rated good as often as given."""
    lines: list[dict[str, Any]] = []
    for number in range(count):
        arm, share = (("canary", of_canary), ("champion", of_champion))[number % 2]
        arm_name = f"{arm}:{canary.id[:12]}"
        lines.append(
            {"kind": "response", "id": f"r{number}", "arm": arm_name, "arm_unit": f"单元{number}", "is_shadow": False}
        )
        value = (number // 2) % 10 < 10 * share
        lines.append(
            {"kind": "feedback", "id": f"f{number}", "response": f"r{number}", "type": "boolean", "value": value, "choice": 0,
             "name": "rating", "source": "human", "user": f"u{number}", "when": time.time() - 60, "digest": ""}
        )  # fmt: skip
    return lines


def step(canary: Canary, of_champion: float, of_canary: float, count: int = 60, days: float = 0) -> str:
    """The kind of the decision."""
    lines = records(canary, of_champion, of_canary, count)
    state = controller.take_step(TINY, lambda: lines, time.time() + 86_400 * days)
    assert state is not None
    return state.decision.kind


def test_a_canary_that_is_rated_worse_is_taken_back_by_one_entry(
    ledger: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    canary = canaries.begin_canary(TINY, 2, PLAN, "试用")
    assert step(canary, 0.9, 0.9, count=20) == "go_on"
    length = len(read_ledger("tiny"))
    assert step(canary, 1.0, 0.1) == "take_back"
    assert newest() == ("canary_ended", 2, "taken_back")
    assert len(read_ledger("tiny")) == length + 1
    numbers = read_ledger("tiny")[-1].read_details()
    assert (numbers["ratings"], numbers["of_canary"], numbers["harm"] >= 20) == (60, 30, True)
    messages = [record.message for record in caplog.records if record.message.startswith("canary: tiny v2 taken back")]
    assert len(messages) == 1
    assert "v1 answers all users: its answers were rated worse" in messages[0]
    assert ledger == ["reconcile"], "the registry has its rejection"
    assert controller.take_step(TINY, list) is None
    with pytest.raises(NotPromotable, match="taken back by"):
        stage.promote(TINY, 2, "again", expected_champion=1)
    with pytest.raises(NotPromotable, match="taken back by"):
        canaries.begin_canary(TINY, 2, PLAN, "again")


def test_a_version_that_passed_is_promoted_without_a_benefit(ledger: list[str]) -> None:
    canary = canaries.begin_canary(TINY, 2, PLAN, "试用")
    assert canary.plan == replace(PLAN, champion=1)
    assert step(canary, 0.8, 0.8) == "promote"
    assert newest() == ("promoted", 2, "promoted")
    entry = read_ledger("tiny")[-1]
    assert entry.why.startswith(
        "canary: its answers were not shown to be rated worse than those of v1: 60 rated units, 30 of"
    )
    assert canary_of(read_verified("tiny")) is None


def test_an_inconclusive_version_is_promoted_by_a_benefit_alone_and_once(ledger: list[str]) -> None:
    canary = canaries.begin_canary(TINY, 3, PLAN, "试用")
    assert canary.plan.level == 0.0125
    with pytest.raises(NotPromotable, match="did not pass the gate: inconclusive"):
        stage.promote(TINY, 3, "by hand", expected_champion=1)
    assert step(canary, 0.8, 0.8) == "go_on"
    assert step(canary, 0.8, 0.8, days=4) == "undecided"
    assert newest() == ("canary_ended", 3, "undecided")
    with pytest.raises(NotPromotable, match="keeps no level for a canary, or one has used it"):
        canaries.begin_canary(TINY, 3, PLAN, "again")


def test_a_benefit_promotes_an_inconclusive_version(ledger: list[str]) -> None:
    canary = canaries.begin_canary(TINY, 3, PLAN, "试用")
    assert step(canary, 0.0, 1.0, count=80) == "promote"
    assert newest() == ("promoted", 3, "promoted")
    assert champion_version(read_ledger("tiny")) == 3


def test_with_approval_a_benefit_is_reported_once_and_nobody_is_promoted(
    ledger: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TINY, "promote", PromoteSettings(approval="required", approval_days=3650))
    canary = canaries.begin_canary(TINY, 3, PLAN, "试用")
    for _ in range(2):
        assert step(canary, 0.0, 1.0, count=80) == "promote"
    (message,) = [record.message for record in caplog.records if "waits for approval" in record.message]
    assert "rated better" in message
    assert message.endswith("Decide: strop promote 3 --force --why TEXT")
    assert newest()[0] == "canary"
    passed = replace(canary, entry=replace(canary.entry, passed=True))
    assert controller.approval_command(passed) == "strop approve 3 --why TEXT"


def test_another_controller_or_person_may_be_first(ledger: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    canary = canaries.begin_canary(TINY, 2, PLAN, "试用")
    with FileLock(controller.LOCK):
        assert controller.take_step(TINY, list) is None, "the other one is at work"
    real = canaries.end_canary

    def stopped_first(*arguments: Any) -> Entry:
        real(TINY, canary, "stopped", {}, "a person")
        return real(*arguments)

    monkeypatch.setattr(canaries, "end_canary", stopped_first)
    assert step(canary, 1.0, 0.0) == "take_back"
    assert newest() == ("canary_ended", 2, "stopped")
    with pytest.raises(LedgerMoved, match="the canary of v2 has ended"):
        stage.promote(TINY, 2, "late", expected_champion=1, canary="{}")


@pytest.mark.parametrize(
    ("version", "error", "words"),
    [
        (1, NotPromotable, "v1 serves already: there is nothing to compare a canary with"),
        (4, NotPromotable, "did not pass the gate: refused"),
        (9, NotPromotable, "was never judged"),
    ],
)
def test_a_version_that_cannot_be_promoted_has_no_canary(
    ledger: list[str], version: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        canaries.begin_canary(TINY, version, PLAN, "试用")
    assert len(read_ledger("tiny")) == 5


def test_one_canary_runs_at_a_time_and_signatures_are_required_as_for_a_promotion(
    ledger: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries.begin_canary(TINY, 2, PLAN, "试用")
    with pytest.raises(LedgerMoved, match=r"the canary of v2 runs.*strop canary stop"):
        canaries.begin_canary(TINY, 3, PLAN, "试用")
    running = canary_of(read_verified("tiny"))
    assert running is not None
    canaries.end_canary(TINY, running, "stopped", {}, "by hand")

    def unsigned(*arguments: Any) -> None:
        assert arguments[-1] == "promotion"
        raise SigningError("must not enter service", where="tiny v2")

    monkeypatch.setattr(canaries, "require_signed", unsigned)
    with pytest.raises(SigningError):
        canaries.begin_canary(TINY, 2, PLAN, "试用")


def test_a_controller_outlives_errors_and_reports_each_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, steps = threading.Event(), []

    def fails(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 4:
            stop.set()
        if len(steps) != 3:
            raise RegistryError("cannot be reached", where="the registry")

    monkeypatch.setattr(controller, "take_step", fails)
    controller.watch(TINY, list, stop, pause_seconds=0)
    assert len(steps) == 4
    assert [record.message for record in caplog.records] == ["canary: the registry: cannot be reached."] * 2, (
        "again after a success"
    )


def test_the_registry_has_a_take_back_as_a_rejection(ledger: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    canary = canaries.begin_canary(TINY, 2, PLAN, "试用")
    pages: list[Any] = []
    changes: list[Any] = []
    monkeypatch.setattr(
        stage, "record_approvals", lambda _, version, approvals: pages.append((version.version, approvals))
    )
    registry: Any = SimpleNamespace(
        alias=lambda _: 2, remove_alias=changes.append, set_version_tags=lambda *arguments: changes.append(arguments)
    )
    versions: Any = [SimpleNamespace(version=number, tags={}) for number in (1, 2, 3)]
    stage._mirror_rejections(registry, versions, read_verified("tiny"))
    assert changes == [], "a canary that runs decides nothing"
    assert step(canary, 1.0, 0.1) == "take_back"
    stage._mirror_rejections(registry, versions, read_verified("tiny"))
    back = read_verified("tiny")[-1]
    assert pages == [(2, [back.entry.approval])]
    assert changes == ["challenger", (2, {PROMOTED_TAG: back.entry.approval, LEDGER_TAG: back.commit})]


def test_commands_start_show_and_stop_a_canary(
    ledger: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.cli.canary.enter_project", lambda: TINY)

    def run(*arguments: str) -> str:
        assert main.run(["canary", *arguments]) == 0
        return capsys.readouterr().out

    assert run("status") == "No canary runs.\n"
    assert main.run(["canary", "stop"]) == 1
    assert "Version 2 answers 50% of the conversations." in run("start", "2", "--share", "0.5", "--why", "试用")
    assert main.run(["canary", "start", "3"]) == 1
    canary = canary_of(read_verified("tiny"))
    assert canary is not None
    assert (canary.entry.why, canary.plan.share, canary.plan.alpha) == ("试用", 0.5, 0.04)
    assert deliver(TINY, Registration(2, "passed", receipt="", is_new=False)).kind == "canary", "no run promotes it now"

    with SpoolWriter(paths.SPOOL, 1 << 20) as writer:
        for line in records(canary, 0.8, 0.8):
            writer.append(line)
    running = json.loads(run("status", "--json"))["running"]
    assert (running["version"], running["decision"], running["ratings"]) == (2, "go_on", 0), (
        "its ratings are not settled"
    )
    assert "To promote without harm: 0 rated units, needs 1,000" in run("status")
    state = controller.read_canary(TINY, controller.gateway_records, time.time() + 86_400)
    assert state is not None
    assert state.decision.evidence.ratings == 60

    assert run("stop", "--why", "够了") == "The canary of version 2 is stopped.\n"
    assert "No canary runs. The last one: v2 canary ended by" in run("status")


def test_a_run_begins_a_canary_of_each_new_candidate_that_may_be_promoted(
    ledger: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(version: int, verdict: Any, level: float = 0.0125) -> tuple[str, int | None]:
        write_json(paths.VERDICT, {"canary_level": level})
        ended = deliver(TINY, Registration(version, verdict, receipt="", is_new=True))
        running = canary_of(read_verified("tiny"))
        return ended.kind, running.version if running else None

    assert outcome(3, "inconclusive") == ("inconclusive", None), "without the setting"
    monkeypatch.setattr(TINY, "promote", PromoteSettings(approval="canary"))
    assert outcome(3, "inconclusive", level=0.0) == ("inconclusive", None)
    assert outcome(3, "inconclusive") == ("canary", 3)
    assert outcome(3, "inconclusive") == ("canary", 3), "the same run again"
    assert outcome(4, "refused") == ("refused", 3)
    assert outcome(2, "passed") == ("canary", 2)
    assert read_ledger("tiny")[-2].why == "v2 is newer"
    assert outcome(3, "inconclusive") == ("inconclusive", 2), "its level is used"
    canary = canary_of(read_verified("tiny"))
    assert canary is not None
    assert step(canary, 1.0, 0.0, count=400, days=1) == "take_back"
    assert outcome(2, "passed") == ("rejected", None)


def test_the_status_of_the_project_names_the_canary() -> None:
    known: dict[str, Any] = {field.name: None for field in fields(ProjectStatus)}
    canary = {"version": 2, "share": 0.1, "by": "user"}
    lists: dict[str, Any] = {"waiting": [], "excluded": [], "batches": 1, "raw_rows": 1}
    status = ProjectStatus(**{**known, **lists, "canary": canary})
    assert "Version 2 answers 10% of the users as a canary: [bold]strop canary status[/]" in status.lines()
