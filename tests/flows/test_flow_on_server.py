"""The whole flow, by hand and on a schedule, and every command that uses the registry, on a real MLflow server with a login."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mlflowserver import PASSWORD, USER, server
from support.processes import wait_for
from support.toyflow import collect, command, environment, make_toy_flow, without_prefect
from support.warm import WARM_COMMAND

pytestmark = pytest.mark.usefixtures("warm")

Strop = Callable[..., tuple[int, str, str]]


def scheduled(root: Path, address: str, line: str) -> None:
    """Runs the flow on a schedule until it tells `line`."""
    log = root.parent / "schedule.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command("schedule", "--every", "20s"),
            cwd=root,
            env=without_prefect(MLFLOW_TRACKING_URI=address),
            stdout=file,
            stderr=file,
        )
    try:
        wait_for(lambda: line in log.read_text() or process.poll() is not None, 180, line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert line in log.read_text(), log.read_text()
    assert PASSWORD not in log.read_text()


@pytest.mark.timeout(600)
def test_the_flow_registers_promotes_rolls_back_audits_and_generates_on_a_server(
    tmp_path: Path, strop: Strop, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_toy_flow(tmp_path / "project")
    params = json.loads((root / "params.yaml").read_text())
    params["register"]["model_name"] = "flow"
    (root / "params.yaml").write_text(json.dumps(params))
    address = server(has_login=True).url.replace("://", f"://{USER}:{PASSWORD}@")

    first = subprocess.run(
        command("run", "--json"),
        cwd=root,
        env={**environment(), "MLFLOW_TRACKING_URI": address, WARM_COMMAND: "yes"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert first.returncode == 0, first.stderr[-3000:]
    assert json.loads(first.stdout)["kind"] == "promoted"
    assert PASSWORD not in first.stdout + first.stderr
    collect(root, "two.jsonl", 50)
    scheduled(root, address, "Version 2 passed the gate and is now champion.")

    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

    def answer(*arguments: str) -> str:
        code, out, err = strop(*arguments)
        assert code == 0, out + err
        assert PASSWORD not in out + err
        return out

    assert "Version 1 is now champion" in answer("rollback", "--why", "complaints")
    assert "Version 2 is now champion" in answer("promote", "2", "--force", "--why", "they were mistaken")
    status = json.loads(answer("status", "--json"))
    assert (status["champion"], status["versions"]) == (2, 2)
    for version in ("1", "2"):
        assert json.loads(answer("audit", version, "--json"))["ok"] is True
    assert answer("generate", "Which city?", "--max-tokens", "2")
    rebuilt = json.loads(answer("registry", "rebuild", "--json"))
    assert (rebuilt["made"], rebuilt["kept"]) == ([], [1, 2])
    assert not (root / "mlflow/artifacts").exists(), "something went into a file here"
