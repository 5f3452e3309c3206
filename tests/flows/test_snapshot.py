"""A run works on its snapshot: later edits, deletions and checkouts belong to the next run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_for
from support.project import REPOSITORY
from support.toyflow import command, environment, facts, make_toy_flow, strop
from support.toyworld import git

from tasks.runtime.import_closure import import_closure

pytestmark = pytest.mark.usefixtures("warm")

WAITING = """def render():
    import os, time
    from tasks.runtime.parent_watchdog import end_with_parent
    end_with_parent()
    hold = Path(os.environ["HOLD"])
    if hold.exists():
        (hold / "reached").touch()
    while not (hold / "go").exists() and hold.exists():
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy flow whose `render` waits until it may go on, and whose verdict holds gate.alpha."""
    root = make_toy_flow(tmp_path_factory.mktemp("held") / "project")
    toy = (root / "toy.py").read_text()
    toy = toy.replace("def render():\n", WAITING)
    toy = toy.replace(
        '"alpha_spent": 0.025', '"alpha_spent": json.loads(Path("params.yaml").read_text())["gate"]["alpha"]'
    )
    (root / "toy.py").write_text(toy)
    set_alpha(root, 0.05)
    (root / "recipes").mkdir()
    (root / "recipes/mine.yaml").write_text("a: 1\n")
    git("add", "-A", cwd=root)
    git("commit", "-q", "-m", "It waits", cwd=root)
    return root


class Held:
    """A run that stops in `render`."""

    def __init__(self, root: Path) -> None:
        self.hold = root.parent / "hold"
        self.hold.mkdir(exist_ok=True)
        for name in ("reached", "go"):
            (self.hold / name).unlink(missing_ok=True)
        variables = {**environment(), "HOLD": str(self.hold)}
        self.process = subprocess.Popen(
            command("run", "--json"), cwd=root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: (self.hold / "reached").exists() or self.process.poll() is not None, 120, "the stage")
        assert self.process.poll() is None, self.process.communicate()

    def go_on(self) -> Any:
        (self.hold / "go").touch()
        out, err = self.process.communicate(timeout=180)
        assert self.process.returncode == 0, (out, err)
        assert "Traceback" not in err
        return json.loads(out)


def set_alpha(root: Path, alpha: float) -> None:
    params = json.loads((root / "params.yaml").read_text())
    params["gate"]["alpha"] = alpha
    (root / "params.yaml").write_text(json.dumps(params))


def verdict(root: Path) -> Any:
    return json.loads((root / "data/reports/verdict.json").read_text())


def dvc_status(root: Path) -> str:
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status"], cwd=root, capture_output=True, text=True, check=True
    )
    return status.stdout


EDITED = ("params.yaml", "data/contract/contract.yaml", "data/templates/qa.yaml", "data/decisions.jsonl", "dvc.yaml",
          "recipes/mine.yaml", "toy.py", "tasks/base/weights_digest.py", "tasks/promote/stage.py",
          "verdicts.json")  # fmt: skip


def test_edits_in_mid_run_leave_the_run_as_it_began_and_the_next_run_sees_them(held: Path) -> None:
    # killed after an edit: the next run sees it, and completes
    killed = Held(held)
    set_alpha(held, 0.04)
    killed.process.kill()
    killed.process.communicate()

    run = Held(held)
    (held / "data/decisions.jsonl").touch()
    before = {name: (held / name).read_bytes() for name in EDITED}
    set_alpha(held, 0.03)
    (held / "data/contract/contract.yaml").unlink()
    (held / "data/templates/qa.yaml").unlink()
    (held / "data/templates/qa.yaml").symlink_to(held / "recipes/mine.yaml")
    batch = next((held / "data/raw/qa").glob("*.parquet")).stem
    line = {"what": "exclude", "which": batch, "who": "me", "when": "2026-01-01T00:00:00+00:00", "why": "a try"}
    (held / "data/decisions.jsonl").write_text(json.dumps(line) + "\n")
    (held / "dvc.yaml").write_text(before["dvc.yaml"].decode().replace("python toy.py gate", "exit 1"))
    (held / "recipes/mine.yaml").write_text("a: 2\n")
    (held / "toy.py").unlink()
    for name in ("tasks/base/weights_digest.py", "tasks/promote/stage.py"):  # half written
        (held / name).write_bytes(before[name][: len(before[name]) // 2] + b"\n(")
    (held / "verdicts.json").write_text('{"1": false}')
    outcome = run.go_on()

    assert (outcome["kind"], outcome["version"]) == ("promoted", 1)
    assert verdict(held)["alpha_spent"] == 0.04
    receipt = json.loads((held / "data/reports/receipt.json").read_text())
    assert receipt["params"]["gate"]["alpha"] == 0.04
    assert receipt["decisions"] == []
    for name, content in before.items():
        tagged = subprocess.run(["git", "show", f"tiny@v1:{name}"], cwd=held, capture_output=True, check=True).stdout
        assert tagged == content, name
    status = dvc_status(held)
    assert "gate:" in status
    assert "finetune:" not in status
    for name in EDITED:
        if name not in ("params.yaml",):
            (held / name).unlink(missing_ok=True)
            (held / name).write_bytes(before[name])
    audited = facts(held, "audit", "1")
    assert audited["ok"], audited
    strop(held, "audit", "1", "--rebuild", HOLD=str(held.parent / "none"))
    assert dvc_status(held).split() == ["gate:", "changed", "deps:", "params.yaml:", "modified:", "gate"]

    made = [next((held / "data" / name).glob("*.*")) for name in ("validated", "curated", "rendered")]
    made.append(held / "data/model/adapter_model.safetensors")
    contents = [path.read_bytes() for path in made]
    for path in made:  # by hand, in place
        path.chmod(0o644)
        path.write_bytes(b"not what the stage made")
    last = facts(held, "run", HOLD=str(held.parent / "none"))
    assert last["kind"] == "back_at_champion"
    assert [path.read_bytes() for path in made] == contents
    assert verdict(held)["alpha_spent"] == 0.03
    assert dvc_status(held).strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_a_branch_checked_out_in_mid_run_leaves_the_run_on_its_own(held: Path) -> None:
    git("checkout", "-q", "--", ".", cwd=held)
    git("checkout", "-q", "-b", "other", cwd=held)
    set_alpha(held, 0.01)
    (held / "toy.py").write_text("raise SystemExit('of another branch')")
    git("commit", "-q", "-a", "-m", "Another way", cwd=held)
    git("checkout", "-q", "main", cwd=held)
    (held / "inbox/more.jsonl").write_text(json.dumps({"instruction": "Which?", "input": "", "output": "This."}) + "\n")
    head = git("rev-parse", "HEAD", cwd=held).strip()

    run = Held(held)
    git("checkout", "-q", "other", cwd=held)
    outcome = run.go_on()
    git("checkout", "-q", "main", cwd=held)

    assert outcome["kind"] == "promoted"
    tag = f"tiny@v{outcome['version']}"
    assert git("rev-parse", f"{tag}^", cwd=held).strip() == head
    assert "of another branch" not in git("show", f"{tag}:toy.py", cwd=held)
    assert facts(held, "audit", str(outcome["version"]))["ok"]
    assert dvc_status(held).strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_a_file_that_is_damaged_in_mid_run_is_seen_by_the_next_run_alone(held: Path) -> None:
    """The summary, too, is of what the run worked on: a run whose work is done does not fail for it."""
    (held / "inbox/last.jsonl").write_text(json.dumps({"instruction": "Who?", "input": "", "output": "You."}) + "\n")
    decisions = held / "data/decisions.jsonl"
    before = decisions.read_bytes() if decisions.exists() else b""
    run = Held(held)
    decisions.write_text("not a decision\n")
    assert run.go_on()["kind"] == "promoted"
    done = subprocess.run(command("run"), cwd=held, env=environment(), capture_output=True, text=True, check=False)
    decisions.write_bytes(before)
    assert done.returncode == 1
    assert "data/decisions.jsonl line 1: not a decision" in done.stderr


def test_a_raw_batch_that_was_rewritten_by_hand_ends_the_run_before_validate(held: Path) -> None:
    if not (held / "data/raw").exists():
        strop(held, "run", HOLD=str(held.parent / "none"))
    batch = next((held / "data/raw/qa").glob("*.parquet"))
    content = batch.read_bytes()
    batch.unlink()
    batch.write_bytes(content[::-1])
    done = subprocess.run(command("run"), cwd=held, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"data/raw/qa/{batch.name}: changed since it was collected" in done.stderr.splitlines()[-1]
    assert "dvc checkout" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_code_of_a_run_is_loaded_when_it_begins() -> None:
    names = (
        "flows/preflight/training_checks.py",
        "tasks/evaluate/judge/local.py",
        "tasks/register/reload_check.py",
        "tasks/inference/faults.py",
    )
    elsewhere = frozenset(map(Path, names))
    needed = import_closure(["flows/run_once.py", "flows/retrain.py", "flows/report/terminal.py"], elsewhere)
    modules = {".".join(module.with_suffix("").parts).removesuffix(".__init__") for module in needed}
    code = "import sys, flows.retrain; from flows.runtime.snapshot import load_code; load_code(); print(*sys.modules)"
    status = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    # models are loaded by stages
    of_stages = ("tasks.runtime.bounded_jinja", "tasks.chat.")
    missing = {name for name in modules - set(status.stdout.split()) if not name.startswith(of_stages)}
    assert missing == {"tasks.base.heads", "tasks.base.load", "tasks.base.precision"}
    assert "torch" not in status.stdout.split()
