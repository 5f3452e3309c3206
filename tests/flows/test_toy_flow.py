"""The flow around toy stages: its outcomes and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.planting import SECRETS, leaks, planted, searched, web  # noqa: F401  (fixtures)
from support.processes import wait_for
from support.toyflow import collect, command, environment, facts, flow_runs, make_toy_flow, prefect_home, strop

pytestmark = pytest.mark.usefixtures("warm")


def _set(root: Path, **sections: dict[str, object]) -> None:
    params = json.loads((root / "params.yaml").read_text())
    for name, values in sections.items():
        params[name] = {**params.get(name, {}), **values}
    (root / "params.yaml").write_text(json.dumps(params))


def test_the_story_promoted_then_refused_then_excluded_and_back(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    _set(root, lineage={"openlineage": ".strop/lineage.jsonl"})
    first = facts(root, "run")
    assert (first["kind"], first["version"], first["champion"]) == ("promoted", 1, 1)
    assert_reported(root / ".strop/lineage.jsonl")
    _set(root, lineage={"openlineage": None})
    dataset = first["summary"]["dataset"]

    again = strop(root, "run")
    assert "Nothing is new" in again
    assert "version 1 serves" in again

    (root / "verdicts.json").write_text('{"2": false}')
    collect(root, "two.jsonl", 50)
    refused = facts(root, "run", exit_code=3)
    assert (refused["kind"], refused["version"], refused["champion"]) == ("refused", 2, 1)
    summary = refused["summary"]
    new = [batch["batch"] for batch in summary["new_batches"]]
    assert len(new) == 1
    page = (root / summary["report"]).read_text(encoding="utf-8")
    assert "The new model was refused. It was compared with the champion (version 1)" in page
    assert "[data/reports/report.html](report.html)" in (root / "data/reports/summary.md").read_text(encoding="utf-8")
    assert any(command.startswith(f"strop data exclude {new[0]}") for command, _ in summary["next_commands"])
    assert "Nothing is new" in strop(root, "run")

    strop(root, "data", "exclude", new[0], "--why", "its labels are shuffled")
    back = facts(root, "run")
    assert (back["kind"], back["champion"]) == ("back_at_champion", 1)
    assert back["summary"]["dataset"] == dataset
    assert "Nothing is new" in strop(root, "run")
    assert [entry["kind"] for entry in facts(root, "history")] == ["judged", "promoted", "judged"]
    assert (root / "data/reports/summary.md").read_text().startswith("# The data and parameters are again")


def assert_reported(path: Path) -> None:
    """The events of OpenLineage: every stage with what it read and wrote, and the version."""
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    ended = {event["job"]["name"]: event for event in events if event["eventType"] != "START"}
    assert {event["eventType"] for event in ended.values()} == {"COMPLETE"}
    assert {"retrain", "ingest", "curate", "finetune", "gate", "register"} <= ended.keys()
    written = {each["name"]: each["facets"]["version"]["datasetVersion"] for each in ended["curate"]["outputs"]}
    read = {each["name"]: each["facets"]["version"]["datasetVersion"] for each in ended["render"]["inputs"]}
    assert read["data/curated"] == written["data/curated"]
    (version,) = ended["register"]["outputs"]
    assert version["facets"]["version"]["datasetVersion"] == "1"


@pytest.mark.slow
def test_without_automatic_promotion_it_waits_for_a_person(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    _set(root, promote={"automatic": False})
    waiting = facts(root, "run")
    assert (waiting["kind"], waiting["version"], waiting["champion"]) == ("waiting", 1, None)
    assert facts(root, "status")["waiting"] == [1]
    assert "Nothing is new" in strop(root, "run")
    _approve_on_prefects_page(root, version=1, why="looks good")
    assert facts(root, "promote", "1")["why"] == "looks good"  # it is champion already: said again, it is done once
    status = facts(root, "status")
    assert (status["champion"], status["is_anything_new"]) == (1, False)
    strop(root, "rollback", exit_code=1)
    audited = facts(root, "audit", "1")
    assert audited["ok"] is True


def _approve_on_prefects_page(root: Path, version: int, why: str) -> None:
    """Runs the promotion flow, which pauses, and resumes it with an answer as the page would."""
    code = f"from flows.promote import promote; promote(version={version})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, env=environment(), stderr=subprocess.PIPE, text=True
    )
    answer = f"{{'approve': True, 'why': {why!r}}}"
    resume = (
        "import json, sys; from uuid import UUID; from prefect.flow_runs import resume_flow_run;"
        f"resume_flow_run(UUID(sys.argv[1]), run_input={answer})"
    )
    paused: list[str] = []

    def is_paused() -> bool:
        paused[:] = [run["id"] for run in flow_runs() if run["state_type"] == "PAUSED"]
        return bool(paused)

    wait_for(is_paused, 90, "the question of the gate")
    subprocess.run([sys.executable, "-c", resume, paused[0]], env=environment(), check=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def test_a_failed_stage_ends_the_run_in_one_line_and_the_next_run_continues(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    toy = (root / "toy.py").read_text()
    (root / "toy.py").write_text(toy.replace("def render():", 'def render():\n    sys.exit("render: no room left")'))
    done = subprocess.run(command("run"), cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "render: no room left" in done.stderr
    assert "`render` failed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    (root / "toy.py").write_text(toy)
    assert facts(root, "run")["kind"] == "promoted"


CRASH = """
import os

def report_against_champion(model):
    try:
        raise ConnectionError("could not connect to postgresql://me:" + os.environ["DB_PASSWORD"] + "@db/x")
    except ConnectionError as error:
        raise RuntimeError("no data: " + os.environ["HTTP_PROXY"] + " and " + os.environ["THE_KEY"]) from error
"""


def test_nothing_that_a_run_or_a_crash_writes_holds_a_secret(
    planted: tuple[Path, dict[str, str]],  # noqa: F811
    web: Any,  # noqa: F811
) -> None:
    root, environment = planted

    def run(*arguments: str, code: int = 0, **more: str) -> str:
        done = subprocess.run(
            command(*arguments), cwd=root, env=environment | more, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, (done.returncode, done.stdout[-3000:], done.stderr[-3000:])
        assert leaks((done.stdout + done.stderr).encode()) == []
        return done.stdout + done.stderr

    real = (root / "tasks/lineage/drift_report.py").read_text()
    (root / "tasks/lineage/drift_report.py").write_text(CRASH)
    assert "RuntimeError" in run("run", code=1)
    (root / "tasks/lineage/drift_report.py").write_text(real)
    assert "champion" in run("run")
    assert any((root.parent / SECRETS["remote"]).rglob("*.dir")), "it was pushed there"
    receipt = json.loads((root / "data/reports/receipt.json").read_text())
    assert receipt["remote"] == "store"

    web.status = 403
    assert "source `web`" in run("run", code=1)
    where = f"http://me:{SECRETS['tracking']}@127.0.0.1:9"
    assert "registry cannot be reached" in run("rollback", code=1, MLFLOW_TRACKING_URI=where)
    assert "cannot be reached" in run("data", "build", code=1)
    assert searched(root, prefect_home()) == {}
