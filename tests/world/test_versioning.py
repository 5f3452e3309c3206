"""tasks/vcs: what is out of date, what ran, what is locked, and the outputs of a commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.processes import wait_for
from support.toyworld import git as user
from support.toyworld import set_remote

from tasks import paths
from tasks.errors import VersioningError
from tasks.state.decisions import begin_decisions, read_decisions, record_decision
from tasks.vcs import dvc_outputs, dvc_pipeline, git
from tasks.workspace.snapshot_commit import make_snapshot_commit

PIPELINE = """
stages:
  curate:
    cmd: python make.py
    deps: [data/raw, data/round.json, make.py]
    params: [word]
    outs: [data/curated]
  gate:
    cmd: echo judged >> judged.log && cp data/curated/a data/verdict
    deps: [data/curated]
    outs: [data/verdict]
"""
COPY = """
import shutil, sys
print("curate: at work", flush=True)
word = open("params.yaml").read()
if "fail" in word:
    sys.exit("strop: the reason")
shutil.copytree("data/raw", "data/curated")
open("data/curated/word", "w").write(word)
open("ran.log", "a").write("x")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    files = {
        "dvc.yaml": PIPELINE,
        "make.py": COPY,
        "params.yaml": "word: one\n",
        ".dvc/config": "[core]\n    analytics = false\n",
        ".gitignore": "/data/raw/\n/data/curated/\n/data/verdict\n",
        "data/raw/a": "a",
        "data/raw/b": "b",
        "data/round.json": "1",
    }
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    user("init", "-q", "-b", "main")
    user("add", "-A")
    user("commit", "-q", "-m", "Start")
    dvc_pipeline.add_raw()
    return root


def run_all() -> tuple[bool, bool]:
    return dvc_pipeline.reproduce("curate"), dvc_pipeline.reproduce("gate")


def test_a_stage_runs_once_and_is_restored_from_the_run_cache_for_old_inputs(project: Path) -> None:
    assert not dvc_pipeline.is_clean()
    assert run_all() == (True, True)
    assert run_all() == (False, False)
    assert dvc_pipeline.is_clean()
    Path("params.yaml").write_text("word: two\n")
    assert dvc_pipeline.changed_stages() == {"curate": ["params.yaml:word (modified)"]}
    assert run_all()[0]
    Path("params.yaml").write_text("word: one\n")
    assert dvc_pipeline.reproduce("curate") is False
    assert Path("ran.log").read_text() == "xx"
    assert Path("data/curated/word").read_text() == "word: one\n"


def test_a_stages_output_passes_through_and_dvcs_chatter_does_not(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_all()
    captured = capfd.readouterr()
    assert captured.out == "curate: at work\n"
    assert captured.err == ""


def test_dvc_warns_of_no_empty_file_where_nothing_was_decided(project: Path) -> None:
    Path("dvc.yaml").write_text(PIPELINE.replace("data/round.json", paths.DECISIONS.as_posix()))
    begin_decisions()
    assert read_decisions() == []
    made = record_decision("drop", "r1", "it is wrong")
    assert read_decisions() == [made]
    paths.DECISIONS.unlink()
    begin_decisions()
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=True)
    assert "curate: at work" in done.stdout
    assert "is empty" not in done.stdout + done.stderr

    paths.DECISIONS.write_text("")  # an earlier project's stays as it is: else its stages would run again
    begin_decisions()
    assert paths.DECISIONS.read_text() == ""
    assert read_decisions() == []


def test_a_failed_stage_is_named_after_its_own_line(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text("word: fail\n")
    with pytest.raises(VersioningError, match="stage `curate` failed; the reason is printed above"):
        dvc_pipeline.reproduce("curate")
    assert capfd.readouterr().err == "strop: the reason\n"


def test_the_stage_runs_by_our_python_and_the_path_is_put_back(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    Path("make.py").write_text("import sys; open('python.log', 'w').write(sys.prefix)\n" + COPY)
    dvc_pipeline.reproduce("curate")
    assert Path("python.log").read_text() == sys.prefix
    assert os.environ["PATH"] == "/usr/bin:/bin"


def test_an_output_of_another_stage_is_not_a_changed_input(project: Path) -> None:
    run_all()
    subprocess.run(["rm", "-rf", "data/curated"], check=True)
    assert dvc_pipeline.changed_stages()
    assert dvc_pipeline.changed_inputs() == {}
    Path("data/round.json").write_text("2")
    assert dvc_pipeline.changed_inputs() == {"curate": ["data/round.json (modified)"]}
    assert dvc_pipeline.changed_inputs(ignoring={"data/round.json"}) == {}
    Path("data/raw/c").write_text("c")
    dvc_pipeline.add_raw()
    assert dvc_pipeline.changed_inputs(ignoring={"data/round.json"}) == {"curate": ["data/raw (modified)"]}


def test_a_changed_command_is_a_changed_input(project: Path) -> None:
    run_all()
    Path("dvc.yaml").write_text(PIPELINE.replace("echo judged", "echo weighed"))
    assert dvc_pipeline.changed_inputs() == {"gate": ["changed command"]}


def test_it_waits_for_another_process_that_holds_the_lock(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("make.py").write_text(
        "import time; from pathlib import Path; Path('busy').touch()\n"
        f"for _ in range(1200):\n    Path('enough').exists() or time.sleep(0.1)\n{COPY}"
    )
    code = "from tasks.vcs.dvc_pipeline import reproduce; reproduce('curate')"
    other = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    wait_for(lambda: Path("busy").exists() or other.poll() is not None, 120, "the other's stage")
    assert other.poll() is None

    def wait(seconds: float) -> None:
        Path("enough").touch()
        time.sleep(seconds)

    monkeypatch.setattr("tasks.vcs.dvc_repo.time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))
    assert dvc_pipeline.reproduce("curate") is False
    assert other.wait() == 0
    assert Path("ran.log").read_text() == "x"
    assert "waiting for another process" in capfd.readouterr().err


def test_it_does_not_wait_forever(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.vcs.dvc_repo.LOCK_WAIT_SECONDS", 0.5)
    Path("make.py").write_text("import time; open('busy', 'w'); time.sleep(300)\n" + COPY)
    other = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "-q", "curate"], start_new_session=True)
    try:
        wait_for(lambda: Path("busy").exists() or other.poll() is not None, 120, "the other's stage")
        assert other.poll() is None
        with pytest.raises(VersioningError, match="another process still uses the same data"):
            dvc_pipeline.reproduce("curate")
    finally:
        os.killpg(other.pid, 9)
        other.wait()
    Path("make.py").write_text(COPY)
    assert dvc_pipeline.reproduce("curate"), "a lock of a process that is gone holds nobody up"


def test_it_works_from_a_thread(project: Path) -> None:
    ran: list[bool] = []
    thread = threading.Thread(target=lambda: ran.append(dvc_pipeline.reproduce("curate")))
    thread.start()
    thread.join()
    assert ran == [True]


def test_the_dataset_version_is_the_hash_of_its_content(project: Path) -> None:
    assert dvc_outputs.dataset_version() is None
    run_all()
    first = dvc_outputs.dataset_version()
    assert first is not None
    assert len(first) == 36
    assert first.endswith(".dir")
    Path("make.py").write_text("# other code, the same data\n" + COPY)
    run_all()
    assert dvc_outputs.dataset_version() == first
    Path("data/raw/a").write_text("A")
    dvc_pipeline.add_raw()
    run_all()
    assert dvc_outputs.dataset_version() != first


def version_one() -> str:
    run_all()
    commit = make_snapshot_commit("one")
    git.make_ref("refs/tags/tiny@v1", commit)
    Path("data/raw/a").write_text("A")
    dvc_pipeline.add_raw()
    run_all()
    return commit


def test_a_version_is_fetched_as_it_was(project: Path, tmp_path: Path) -> None:
    version_one()
    dvc_outputs.fetch_from("tiny@v1", paths.CURATED, tmp_path / "then")
    dvc_outputs.fetch_from("tiny@v1", paths.RAW, tmp_path / "raw")
    assert (tmp_path / "then/a").read_text() == "a"
    assert (tmp_path / "raw/a").read_text() == "a"
    assert Path("data/curated/a").read_text() == "A"
    with pytest.raises(VersioningError, match="tiny@v1: has no data/model"):
        dvc_outputs.fetch_from("tiny@v1", paths.MODEL, tmp_path / "model")


def test_data_missing_in_the_cache_are_fetched_from_the_remote(project: Path, tmp_path: Path) -> None:
    set_remote(tmp_path / "remote")
    run_all()
    assert dvc_pipeline.push() == "pushed"
    version_one()
    subprocess.run(["rm", "-rf", ".dvc/cache"], check=True)
    dvc_outputs.fetch_from("tiny@v1", paths.CURATED, tmp_path / "then")
    assert (tmp_path / "then/a").read_text() == "a"


def test_data_in_neither_cache_nor_remote_are_reported(project: Path, tmp_path: Path) -> None:
    version_one()
    subprocess.run(["rm", "-rf", ".dvc/cache"], check=True)
    with pytest.raises(VersioningError, match="neither in the local cache nor in a remote"):
        dvc_outputs.fetch_from("tiny@v1", paths.CURATED, tmp_path / "then")
    assert not (tmp_path / "then").exists()


def test_without_a_remote_nothing_is_pushed(project: Path) -> None:
    run_all()
    assert dvc_pipeline.push() == "local only"
    assert dvc_pipeline.remote_name() == "local only"


@pytest.mark.parametrize("ask", [dvc_pipeline.is_clean, dvc_pipeline.add_raw, lambda: dvc_pipeline.reproduce("curate")])
def test_an_error_in_dvc_yaml_is_one_clear_line(project: Path, ask: Callable[[], object]) -> None:
    run_all()
    Path("dvc.yaml").write_text("stages:\n  curate:\n    cmdd: python make.py\n")
    with pytest.raises(VersioningError) as raised:
        ask()
    assert "dvc.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_dvc_repository_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    user("init", "-q")
    with pytest.raises(VersioningError, match="no DVC repository"):
        dvc_pipeline.add_raw()


def test_importing_the_module_loads_no_dvc() -> None:
    code = "import sys, tasks.vcs.dvc_pipeline; print('dvc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_flipped_bit_in_an_output_and_its_cache_is_repaired_after_removing_the_output(project: Path) -> None:
    """The advice was `dvc repro`, which does nothing: size and time are as they were, and the cache holds the same bytes."""
    run_all()
    output, cache = Path("data/curated/word"), Path(dvc_pipeline.with_repo(lambda repo: repo.cache.local.path, "look"))
    before, content = output.stat(), output.read_bytes()
    copies = [path for path in cache.rglob("*") if path.is_file() and path.read_bytes() == content]
    assert copies
    for path in (output, *copies):  # they may be one file
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.write(bytes([content[0] ^ 1]))
        path.chmod(0o444)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert output.read_bytes() != content
    shutil.rmtree("data/curated")
    assert run_all()[0]
    assert output.read_bytes() == content
