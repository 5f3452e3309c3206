"""Promotion: compare-and-swap on the ledger, the alias as its mirror, and nothing that retrains."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support import toyworld
from support.toyworld import git as user
from support.toyworld import register, run_stages, set_params, set_verdicts

from tasks import paths
from tasks.audit.stage import audit
from tasks.config import PipelineConfig, load_config
from tasks.errors import RegistryError, StropError
from tasks.model_store.approvals import CARD, with_approvals
from tasks.model_store.ledger import LedgerMoved, champion_of, read_ledger
from tasks.promote import stage
from tasks.promote.approval import approve
from tasks.promote.candidates import waiting_candidates
from tasks.promote.stage import promote, reconcile, rollback
from tasks.register.pending import pending
from tasks.state.round import read_round
from tasks.tracking.registry import Registry, open_registry
from tasks.vcs import dvc_pipeline

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 passed the gate against version 1."""
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def serving(config: PipelineConfig) -> tuple[int | None, int | None]:
    """The champion by the ledger, and by the registry's alias."""
    champion = champion_of(read_ledger("tiny"))
    return champion.version if champion else None, open_registry(config).alias("champion")


def card_of(registry: Registry, version: int) -> str:
    """The model card of a version."""
    run_id = registry.version(version).run_id
    with TemporaryDirectory() as folder:
        return registry.download_file(run_id, CARD, Path(folder)).read_text(encoding="utf-8")


def kinds() -> list[tuple[str, int]]:
    return [(entry.kind, entry.version) for entry in read_ledger("tiny")]


def test_a_promotion_is_in_the_ledger_and_in_the_alias(world: Path) -> None:
    entry = promote(load_config(), 2, why="passed", expected_champion=1)
    assert (entry.kind, entry.version, entry.why) == ("promoted", 2, "passed")
    assert serving(load_config()) == (2, 2)
    assert open_registry(load_config()).alias("challenger") is None
    again = promote(load_config(), 2, why="passed", expected_champion=1)
    assert again == entry
    assert kinds() == [("judged", 1), ("promoted", 1), ("judged", 2), ("promoted", 2)]


def test_the_command_reports_that_a_version_serves_already(
    world: Path, strop: Callable[..., tuple[int, str, str]]
) -> None:
    assert "Version 1 is champion already" in strop("promote", "1")[1]
    assert "Version 2 is now champion." in strop("promote", "2")[1]


def test_history_marks_the_entry_by_which_a_version_serves_and_no_earlier_one(
    world: Path, strop: Callable[..., tuple[int, str, str]]
) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    rollback(load_config(), why="complaints", expected_champion=2)
    (line,) = [line for line in strop("history")[1].splitlines() if "●" in line]
    assert line.split()[:4] == ["v1", "●", "rolled", "back"]


def test_an_approval_is_recorded_with_name_and_comment_for_one_model_and_one_verdict(world: Path) -> None:
    entry = promote(load_config(), 2, why="我读过全部回答", expected_champion=1, who="李雷")
    judged = next(each for each in read_ledger("tiny") if each.kind == "judged" and each.version == 2)
    assert (entry.who, entry.why) == ("李雷", "我读过全部回答")
    assert (entry.weights_digest, entry.verdict, entry.receipt) == (
        judged.weights_digest,
        judged.verdict,
        judged.receipt,
    )
    registry = open_registry(load_config())
    assert registry.version(2).tags["strop.promoted"] == f"promoted by 李雷 on {entry.when}: 我读过全部回答"
    page, card = registry.version(2).description, card_of(registry, 2)
    for text in (page, card):
        assert f"promoted by 李雷 on {entry.when}: 我读过全部回答" in text
    assert card.startswith("---\n"), "the metadata stay first"
    assert card.count("## Limits") == card.count("## Approval") == 1
    assert all(link.ok is not False for link in audit(load_config(), 2, deep=True)), (
        "what is registered has not changed"
    )
    (verdict,) = [link for link in audit(load_config(), 2, deep=True) if link.name == "verdict"]
    assert (verdict.ok, verdict.detail) == (True, f"passed; {entry.approval}")
    registry.set_version_tags(2, {"strop.promoted": "promoted by 韩梅梅 on 2026-01-01: fine"})
    (verdict,) = [link for link in audit(load_config(), 2, deep=True) if link.name == "verdict"]
    assert not verdict.ok
    assert "which no entry of the ledger has" in verdict.detail


def test_the_page_keeps_what_a_person_wrote_and_has_each_approval(world: Path) -> None:
    registry = open_registry(load_config())
    registry.describe_version(1, "模型一\n\nWritten by a *person*.")
    promote(load_config(), 2, why="passed", expected_champion=1)
    entry = rollback(load_config(), why="<b>抱怨</b>", expected_champion=2)
    page = registry.version(1).description
    assert page.startswith("模型一\n\nWritten by a *person*.\n\n")
    lines = [line for line in page.splitlines() if line.startswith("- ")]
    assert [line.split()[1] for line in lines] == ["promoted", "rolled"]
    assert lines[1].endswith(f"on {entry.when}: &#60;b&#62;抱怨&#60;/b&#62;"), "no markup of a reason"
    assert lines[1] in card_of(registry, 1)
    assert with_approvals(page, ["promoted by 李雷"]).count("## Approval") == 1


def test_a_registry_that_refuses_the_text_does_not_stop_a_promotion(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise RegistryError("may not write", where="the registry")

    monkeypatch.setattr(Registry, "describe_version", refuse)
    promote(load_config(), 2, why="passed", expected_champion=1)
    assert serving(load_config()) == (2, 2)
    assert "the approval of v2 is not in its model card or on its page" in caplog.text


def test_of_twenty_racing_promoters_one_wins_and_there_is_a_champion_at_every_moment(world: Path) -> None:
    set_params(seed=3)
    run_stages()
    assert register().version == 3  # it too was judged against version 1
    outcomes: list[Any] = []
    aliases: set[tuple[int, ...]] = set()
    start, is_over = threading.Barrier(21), threading.Event()

    def watch() -> None:
        with closing(sqlite3.connect("file:mlflow/mlflow.db?mode=ro", uri=True, timeout=30)) as database:
            start.wait()
            while not is_over.is_set():
                rows = database.execute("SELECT version FROM registered_model_aliases WHERE alias = 'champion'")
                aliases.add(tuple(int(version) for (version,) in rows))

    def race(version: int) -> None:
        start.wait()
        try:
            outcomes.append(promote(load_config(), version, why="passed", expected_champion=1).version)
        except LedgerMoved as error:
            outcomes.append(error)

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=race, args=(version,)) for version in [2, 3] * 10]
    for thread in [watcher, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    is_over.set()
    watcher.join()
    (winner,) = {o for o in outcomes if isinstance(o, int)}  # to promote the champion again changes nothing
    assert len(outcomes) == 20
    assert {type(o) for o in outcomes if o != winner} == {LedgerMoved}
    assert aliases <= {(1,), (winner,)}
    assert aliases
    assert serving(load_config()) == (winner, winner)
    assert sum(kind == "promoted" for kind, _ in kinds()) == 2


def test_a_promoter_who_read_the_ledger_before_another_wrote_is_refused(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stage.require_promotable

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(stage, "require_promotable", real)
        promote(load_config(), 2, why="the other", expected_champion=1)
        real(*arguments)

    monkeypatch.setattr(stage, "require_promotable", meanwhile)
    with pytest.raises(LedgerMoved):
        promote(load_config(), 2, why="mine", expected_champion=1)
    assert kinds().count(("promoted", 2)) == 1


def test_another_champion_than_expected_is_refused(world: Path) -> None:
    with pytest.raises(LedgerMoved, match="v1 serves, not no version"):
        promote(load_config(), 2, why="passed", expected_champion=None)
    assert serving(load_config()) == (1, 1)


def test_a_verdict_against_another_champion_does_not_promote(world: Path) -> None:
    set_params(seed=3)
    run_stages()
    register()
    promote(load_config(), 2, why="passed", expected_champion=1)
    with pytest.raises(RegistryError, match="v3 was judged against v1, but v2 serves"):
        promote(load_config(), 3, why="passed", expected_champion=2)
    assert not pending(load_config()), "it can never be promoted on that verdict"
    with pytest.raises(RegistryError, match="v3 was judged against v1, but v2 serves"):
        approve(load_config(), 3, why="fine")
    assert waiting_candidates(load_config(), read_ledger("tiny")) == []
    rollback(load_config(), why="complaints", expected_champion=2)
    assert [each.version for each in waiting_candidates(load_config(), read_ledger("tiny"))] == [3]
    promote(load_config(), 2, why="no complaints", expected_champion=1)
    promote(load_config(), 3, why="we know better", expected_champion=2, force=True)
    assert serving(load_config()) == (3, 3)


def test_a_refused_version_is_promoted_only_by_force_and_with_a_reason(world: Path) -> None:
    set_params(seed=3)
    set_verdicts(seed3=False)
    run_stages()
    assert register().outcome == "refused"
    with pytest.raises(RegistryError, match="tiny v3 did not pass the gate: refused \\(did not pass better\\)"):
        promote(load_config(), 3, why="", expected_champion=1)
    with pytest.raises(RegistryError, match="needs a reason"):
        promote(load_config(), 3, why=" ", expected_champion=1, force=True)
    promote(load_config(), 3, why="the test set is wrong, see #12", expected_champion=1, force=True)
    entry = champion_of(read_ledger("tiny"))
    assert entry is not None
    assert (entry.version, entry.passed, entry.why) == (3, False, "the test set is wrong, see #12")
    assert "tiny@v3" in user("tag", "--list").split()


def test_a_missing_version_is_reported(world: Path) -> None:
    with pytest.raises(RegistryError, match="no version 9 of tiny; it has 1, 2"):
        promote(load_config(), 9, why="typo", expected_champion=1)


def test_a_rollback_returns_to_the_previous_champion(world: Path) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    entry = rollback(load_config(), why="complaints", expected_champion=2)
    assert (entry.kind, entry.version) == ("rolled_back", 1)
    assert serving(load_config()) == (1, 1)
    with pytest.raises(RegistryError, match="v1 is the first champion"):
        rollback(load_config(), why="further", expected_champion=1)
    promote(load_config(), 2, why="it was not the model", expected_champion=1)
    assert serving(load_config()) == (2, 2)


def test_killed_between_ledger_and_alias_the_next_run_completes_it(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "set_alias", die)
        with pytest.raises(Killed):
            promote(load_config(), 2, why="passed", expected_champion=1)
    assert serving(load_config()) == (2, 1)
    assert pending(load_config())
    promote(load_config(), 2, why="passed", expected_champion=1)
    assert serving(load_config()) == (2, 2)
    assert not pending(load_config())
    assert kinds().count(("promoted", 2)) == 1


def test_an_unreachable_registry_leaves_the_ledger_as_it_was(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before = read_ledger("tiny")
    with pytest.raises(RegistryError, match="cannot be reached"):
        promote(load_config(), 2, why="passed", expected_champion=1)
    assert read_ledger("tiny") == before


def test_promotion_rollback_and_a_hand_moved_alias_leave_dvc_status_clean(world: Path) -> None:
    def is_clean_by_the_command() -> bool:
        result = subprocess.run([sys.executable, "-m", "dvc", "status", "--quiet"], check=False)
        return result.returncode == 0

    round_before = paths.ROUND.read_bytes()
    assert dvc_pipeline.is_clean()
    promote(load_config(), 2, why="passed", expected_champion=1)
    assert dvc_pipeline.is_clean()
    rollback(load_config(), why="complaints", expected_champion=2)
    assert dvc_pipeline.is_clean()
    open_registry(load_config()).set_alias("champion", 2)  # by hand
    assert serving(load_config()) == (1, 2)
    assert dvc_pipeline.is_clean()
    assert is_clean_by_the_command()
    run_stages()
    assert paths.ROUND.read_bytes() == round_before, "the round was begun anew though nothing is new"
    assert reconcile(load_config()) == 1
    assert serving(load_config()) == (1, 1)


def test_the_next_round_sees_the_champion_and_the_looks(world: Path) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    round_ = read_round()
    assert (round_.champion.version if round_.champion else None, round_.looks) == (1, 1)
    set_params(seed=3)
    run_stages()
    round_ = read_round()
    assert (round_.champion.version if round_.champion else None, round_.looks) == (2, 2)


def test_no_error_of_ours_is_a_traceback() -> None:
    assert issubclass(LedgerMoved, StropError)
