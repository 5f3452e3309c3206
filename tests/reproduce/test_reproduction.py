"""A version is made again from its commit alone; the first stage that differs is named; missing inputs are one line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support import toyworld
from support.project import REPOSITORY, own_code
from support.toyworld import run_stages, set_params

from tasks import paths
from tasks.config import load_config
from tasks.errors import AuditError
from tasks.model_store.ledger_chain import LedgerBroken
from tasks.model_store.versions import commit_of
from tasks.reproduce import stage
from tasks.reproduce.result import OutputResult, Reproduction
from tasks.reproduce.stage import Options, reproduce
from tasks.state.erasures import Erasure, record_erasure
from tasks.vcs import dvc_outputs

pytestmark = pytest.mark.usefixtures("warm")
CURRENT = Options("current")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 was let through."""
    root = toyworld.stand_in("serving", tmp_path, monkeypatch)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return root


@pytest.fixture
def no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may run: what is missing is found before."""

    def fail(*_: object) -> None:
        raise AssertionError("a stage ran")

    monkeypatch.setattr(stage, "run_stage", fail)


def stored_raw(version: int = 1) -> dvc_outputs.StoredFile:
    commit = commit_of("tiny", version)
    assert commit
    return next(file for file in dvc_outputs.stored_files(commit, paths.RAW) if file.relpath.endswith(".parquet"))


def test_a_lost_raw_object_is_named_before_any_stage(world: Path, no_stage: None) -> None:
    file = stored_raw()
    file.path.unlink()
    with pytest.raises(AuditError) as raised:
        reproduce(load_config(), 1, CURRENT)
    message = str(raised.value)
    assert message.startswith("tiny v1: its raw rows cannot be obtained: ")
    assert f"{file.relpath}, object {file.md5}" in message
    assert "\n" not in message


def test_erased_rows_are_refused_with_who_and_why(world: Path, no_stage: None) -> None:
    file = stored_raw()
    record_erasure(
        Erasure(
            "data/raw/x", file.md5, "0" * 64, "", "", ["r1"], ["d1"], "Ann", "2030-01-02T00:00:00+00:00", "asked to"
        )
    )
    with pytest.raises(AuditError, match=r"1 row lawfully erased, not rebuildable \(by Ann on 2030-01-02: asked to\)"):
        reproduce(load_config(), 1, CURRENT)


def test_a_base_that_is_gone_is_one_line(world: Path, no_stage: None, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(paths.BASE.read_text())
    moved = {**content, "id": str(world.parent / "no-such-base"), "digest": "x"}
    receipt = {**json.loads(toyworld.git("show", f"tiny@v1:{paths.RECEIPT}")), "base": moved}
    monkeypatch.setattr("tasks.reproduce.version.receipt_at", lambda _: receipt)
    monkeypatch.setattr("tasks.reproduce.version.content_digest", lambda _: next(iter(_digests())))
    with pytest.raises(
        AuditError, match=r"tiny v1: its base cannot be used: .*no-such-base.*missing.*Restore the files"
    ):
        reproduce(load_config(), 1, CURRENT)


def _digests() -> list[str]:
    from tasks.model_store.ledger import read_ledger

    return [entry.receipt for entry in read_ledger("tiny")]


def test_the_champions_weights_that_are_gone_are_named(world: Path, no_stage: None) -> None:
    shutil.rmtree(paths.MODELS)
    shutil.rmtree(paths.MODEL)
    commit = commit_of("tiny", 1)
    assert commit
    for file in dvc_outputs.stored_files(commit, paths.MODEL):
        file.path.unlink(missing_ok=True)
    with pytest.raises(AuditError, match=r"tiny v2: the weights of v1, .* cannot be obtained: "):
        reproduce(load_config(), 2, CURRENT)


def test_a_version_that_does_not_exist_or_has_no_receipt_is_one_line(
    world: Path, monkeypatch: pytest.MonkeyPatch, strop: Callable[..., tuple[int, str, str]]
) -> None:
    with pytest.raises(AuditError, match=r"no commit of version 7 of tiny .*The ledger has these versions: v1, v2"):
        reproduce(load_config(), 7, CURRENT)
    toyworld.git("tag", "tiny@v9", "main")
    code, out, err = strop("reproduce", "9")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "has no receipt" in err


def test_a_tag_or_a_receipt_that_is_not_the_ledgers_is_one_line(
    world: Path, no_stage: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.reproduce.version.content_digest", lambda _: "0" * 64)
    with pytest.raises(
        AuditError, match=r"tiny v1: its receipt is not the one that the ledger names\. .*strop audit 1"
    ):
        reproduce(load_config(), 1, CURRENT)
    toyworld.git("tag", "-f", "tiny@v1", "tiny@v2")
    with pytest.raises(LedgerBroken, match=r"names the commit .* but v1 is at"):
        reproduce(load_config(), 1, CURRENT)


def test_a_clone_without_the_ledger_gets_the_command_that_fetches_it(world: Path) -> None:
    from tasks.model_store.ledger import ledger_ref
    from tasks.reproduce.version import find_version

    assert find_version("tiny", 1).notes == []
    toyworld.git("update-ref", "-d", ledger_ref("tiny"))
    shutil.rmtree(paths.CACHE)  # a new clone has not seen any entry
    with pytest.raises(LedgerBroken, match="Fetch it from a remote"):
        find_version("tiny", 1)


def test_the_command_prints_the_conclusion_or_json_and_exits_by_it(
    world: Path, monkeypatch: pytest.MonkeyPatch, strop: Callable[..., tuple[int, str, str]]
) -> None:
    from tasks.reproduce.result import EnvironmentFacts, StageResult

    facts = EnvironmentFacts("current", "3.11.7", "/env", False, 0.0, ("torch 2 (1)",))

    def pretend(state: str) -> Callable[..., Reproduction]:
        def reproduced(
            config: object, number: int, options: Options, report: Callable[[StageResult], None] | None
        ) -> Reproduction:
            assert options.environment == "current"
            ran = StageResult("finetune", 2.5, (OutputResult("data/model", state, "3 of 4 tensors differ"),))  # type: ignore[arg-type]
            if report:
                report(ran)
            notes = ("processor: here A, in the receipt B",)
            return Reproduction("tiny", number, "c", facts, (ran,), notes, (), "passed", "passed", 0, None, 3.0)

        return reproduced

    monkeypatch.setattr(stage, "reproduce", pretend("identical"))
    code, out, _ = strop("reproduce", "1", "--environment", "current")
    assert (code, out.splitlines()[-1]) == (0, "identical: every output of 1 stage")
    monkeypatch.setattr(stage, "reproduce", pretend("differs"))
    code, out, _ = strop("reproduce", "1", "--environment", "current")
    assert code == 1
    assert "data/model: differs: 3 of 4 tensors differ" in out
    assert "processor: here A, in the receipt B" in out
    assert "torch 2 (1)" in out
    assert out.splitlines()[-1] == "differs first in stage finetune: data/model; the verdict is the same (passed)"
    code, out, _ = strop("reproduce", "1", "--environment", "current", "--json")
    assert (code, json.loads(out)["identical"], json.loads(out)["first_difference"]) == (1, False, "finetune")


@pytest.mark.parametrize("kind", ["file", "full folder", "below a file"])
def test_a_folder_to_keep_that_cannot_be_used_is_one_line_and_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "我的" if kind != "full folder" else tmp_path / "我的" / "file"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    keep = mine / "new" if kind == "below a file" else tmp_path / "我的"
    with pytest.raises(AuditError, match=r"Name another: --keep FOLDER"), stage._folder(keep):
        raise AssertionError("it was used")
    assert mine.read_text() == "mine"


@pytest.mark.slow
def test_a_version_is_made_again_whole_and_lost_files_are_restored(world: Path, tmp_path: Path) -> None:
    set_params(seed=3)  # the present parameters are no part of version 2
    commit = commit_of("tiny", 2)
    assert commit
    lost = [file.path for file in dvc_outputs.stored_files(commit, paths.PREDICTIONS)]
    for path in lost:
        path.unlink()
    before = toyworld.users_view()
    stages = []
    result = reproduce(load_config(), 2, Options("current", keep=tmp_path / "kept", restore=True), stages.append)
    assert result.conclusion == "identical: every output of 4 stages"
    assert [each.name for each in result.stages] == list(toyworld.STAGES) == [each.name for each in stages]
    assert (result.outcome, result.recorded_outcome) == ("passed", "passed")
    assert result.clone == tmp_path / "kept" / "clone"
    assert (result.clone / paths.MODEL / "adapter_model.safetensors").is_file()
    assert (result.restored, all(path.is_file() for path in lost)) == (len(lost), True)
    assert toyworld.users_view() == before
    with pytest.raises(AuditError, match=r"kept: exists, and is not empty.*--keep FOLDER"):
        reproduce(load_config(), 2, Options("current", keep=tmp_path / "kept"))


def change_toy(old: str, new: str, seed: int) -> int:
    """A version whose stages are another program."""
    own_code(Path())
    toy = Path("toy.py").read_text()
    assert old in toy
    Path("toy.py").write_text(toy.replace(old, new))
    set_params(seed=seed)
    run_stages()
    return toyworld.register().version


@pytest.mark.slow
def test_the_first_stage_that_is_not_deterministic_is_named(world: Path) -> None:
    number = change_toy(
        'answers.json"), {"seed": seed}', 'answers.json"), {"seed": seed, "at": __import__("time").time_ns()}', 3
    )
    result = reproduce(load_config(), number, CURRENT)
    assert result.first_difference
    assert result.first_difference.name == "evaluate"
    assert "answers.json: 1 value: at +" in result.first_difference.outputs[0].detail
    assert result.conclusion == "differs first in stage evaluate: data/predictions; the verdict is the same (passed)"
    assert list(Path("../temporary").iterdir()) == []


@pytest.mark.slow
def test_a_stage_that_fails_is_one_line_with_its_reason(world: Path) -> None:
    flag = "if Path('data/docs').is_dir() is False and not Path('inbox').is_dir(): sys.exit('strop: data/x: 坏了.')\n"
    number = change_toy("def evaluate():\n", f"def evaluate():\n    {flag}", 3)
    with pytest.raises(AuditError, match=r"stage `evaluate` failed in the clone of the version: data/x: 坏了"):
        reproduce(load_config(), number, CURRENT)
    assert list(Path("../temporary").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_ctrl_c_or_the_end_of_the_terminal_ends_the_stage_and_removes_the_clone(
    world: Path, tmp_path: Path, number: signal.Signals
) -> None:
    change_toy(
        "def evaluate():\n", "def evaluate():\n    __import__('time').sleep(0 if Path('inbox').is_dir() else 600)\n", 3
    )
    code = "import sys; from flows.cli.main import main; sys.argv[1:] = ['reproduce', '3', '--environment', 'current']; main()"
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log, until = paths.CACHE / "logs" / "reproduce-v3.log", time.monotonic() + 120
    while time.monotonic() < until and not (log.is_file() and "--- evaluate" in log.read_text()):
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count(b"stopped")) == (1, 1), err
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not [each.pid for each in psutil.process_iter() if _is_in(each, tmp_path)]


def _is_in(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return str(folder) in process.cwd() and "evaluate" in process.cmdline()
    return False
