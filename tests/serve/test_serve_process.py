"""The process of `strop serve`: it has no heavy library, serves by the ledger, and ends in order."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support.project import REPOSITORY
from support.toyledger import make_ledger
from support.toyserving import records

from tasks.feedback.records import RESPONSE
from tasks.serve.own_code import own_command, own_environment

SCRIPT = REPOSITORY / "tests/support/serve_toys.py"


def test_the_process_serves_and_completes_its_streams_after_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_ledger()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(SCRIPT)], env=environment, text=True, **pipes) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            if "tiny@v1 serves" in line:
                break
        address = re.search(r"http://127.0.0.1:\d+", "".join(log))
        assert address, log
        threading.Thread(target=process.stderr.read, daemon=True).start()
        key = Path(".strop/serve/key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        headers = {"authorization": f"Bearer {key.read_text().strip()}"}
        body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "一 二 three four"}]}
        with (
            httpx.Client(base_url=address[0], headers=headers, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as stream,
        ):
            lines = stream.iter_lines()
            next(lines)
            assert 'strop_records_total{kind="dropped"} 0.0' in client.get("/metrics").text
            process.send_signal(signal.SIGTERM)
            status = 200
            while status == 200:
                status = client.get("/ready").status_code
            refused = client.post("/v1/predict", json={"family": "topic", "fields": {}})
            rest = list(lines)
        assert status == 503
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert rest[-2:] == ["data: [DONE]", ""]
        report = json.loads(process.stdout.read())
        assert process.wait(20) == 0
    assert report == {"heavy": [], "open": []}
    (response,) = records(RESPONSE)
    assert (response["version"], response["answers"][0]["text"]) == (1, "v1 一 二 three four"), "written before the end"


def test_processes_of_the_server_run_its_code_in_a_project_that_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/__init__.py").write_text("raise SystemExit('the code of the project')")
    (tmp_path / "plugin_of_the_project.py").touch()
    monkeypatch.chdir(tmp_path)
    for module in ("tasks.serve.own_code", "plugin_of_the_project"):
        done = subprocess.run(own_command(module), env=own_environment(), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
