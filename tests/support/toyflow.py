"""A project for the flow itself: every stage of dvc.yaml is a toy, and its weights depend on the number of batches."""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from flows.runtime.server_access import is_healthy
from support.once import keep_running, once
from support.processes import wait_for
from support.project import REPOSITORY
from support.toy_rows import qa_records, write_jsonl
from support.toyworld import TOY, git, template
from support.warm import WARM_COMMAND

SECRET = "test:of the session's Prefect server"

DVC_YAML = """
stages:
  validate:
    cmd: python toy.py validate
    deps: [data/raw, data/decisions.jsonl]
    outs: [data/validated]
  curate:
    cmd: python toy.py curate
    deps: [data/validated]
    outs: [data/curated]
  render:
    cmd: python toy.py render
    deps: [data/curated]
    outs: [data/rendered]
  finetune:
    cmd: python toy.py finetune
    deps: [data/rendered, data/base.json]
    params: [finetune.seed]
    outs: [data/model, data/reports/training.json]
  evaluate:
    cmd: python toy.py evaluate
    deps: [data/model, data/round.json]
    outs: [data/predictions]
  gate:
    cmd: python toy.py gate
    deps: [data/predictions, data/model, data/round.json, verdicts.json]
    params: [gate]
    outs: [data/reports/plots]
    metrics: [data/reports/metrics.json, data/reports/verdict.json]
"""

MORE = """
def validate():
    from tasks.state.decisions import excluded_batches, read_decisions
    for file in sorted(Path("data/raw").rglob("*.parquet")):
        if file.stem not in excluded_batches(read_decisions()):
            Path("data/validated").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, Path("data/validated") / file.name)

def curate():
    shutil.copytree("data/validated", "data/curated")

def render():
    shutil.copytree("data/curated", "data/rendered")

seed = str(len(list(Path("data/rendered").glob("*.parquet"))) or 1)
globals()[sys.argv[1]]()
"""


def make_toy_flow(root: Path) -> Path:
    """At most three batches: a third file makes the weights of adapters/3."""
    shutil.copytree(template("judged"), root, symlinks=True)
    shutil.copytree(REPOSITORY / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    for made in ("curated", "model", "predictions", "reports"):
        shutil.rmtree(root / "data" / made)
    for made in ("dvc.lock", "data/round.json", "data/raw.dvc", ".strop/scan.json"):
        (root / made).unlink()
    shutil.rmtree(root / "data/raw")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "toy.py").write_text(TOY.replace("globals()[sys.argv[1]]()", "") + MORE)
    git("add", "-A", cwd=root)
    git("commit", "-q", "-m", "A toy flow", cwd=root)
    return root


def collect(root: Path, name: str, start: int) -> None:
    """A new file in the inbox."""
    write_jsonl(root / "inbox" / name, qa_records(6, start=start))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli.main", *arguments]


@functools.cache
def prefect_home() -> Path:
    """Where the session's Prefect server keeps its database and log: most tests need not wait for one of their own."""
    return once("prefect", _start_prefect)


def prefect_api() -> str:
    """The address of the session's Prefect server."""
    return (prefect_home() / "url").read_text()


def _start_prefect(home: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    variables = without_prefect(PREFECT_HOME=str(home), PREFECT_SERVER_API_AUTH_STRING=SECRET)
    # by a shell that ends at once: our server ends with the process that started it, and this worker may end before others
    start = [
        *("/bin/sh", "-c", '"$@" &', "sh"),
        sys.executable,
        "-m",
        "flows.runtime.server_process",
        str(listener.fileno()),
    ]
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    with (home / "log").open("wb") as log, listener:
        options = {"cwd": REPOSITORY, "env": variables, "pass_fds": [listener.fileno()], "start_new_session": True}
        shell = subprocess.Popen(start, stdout=log, stderr=log, **options)
        shell.wait()
    keep_running(shell, home)
    wait_for(lambda: is_healthy(url, timeout_seconds=2), 120, "the Prefect server")
    (home / "url").write_text(url)


def without_prefect(**more: str) -> dict[str, str]:
    """The environment of a user who has no Prefect yet."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_TRACKING"))}
    return {**kept, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **more}


def environment() -> dict[str, str]:
    """As where a person named a Prefect server of his own, which has a secret of its own."""
    return without_prefect(PREFECT_API_URL=prefect_api(), PREFECT_API_AUTH_STRING=SECRET)


def strop(root: Path, *arguments: str, exit_code: int = 0, **more: str) -> str:
    """Runs a command in the project, with more in its environment, and returns its standard output."""
    return output_and_log(root, *arguments, exit_code=exit_code, **more)[0]


def output_and_log(root: Path, *arguments: str, exit_code: int = 0, **more: str) -> tuple[str, str]:
    """As `strop`: (standard output, standard error)."""
    variables = {**environment(), WARM_COMMAND: "yes", **more}
    done = subprocess.run(command(*arguments), cwd=root, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, (done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout, done.stderr


def facts(root: Path, *arguments: str, exit_code: int = 0, **more: str) -> Any:
    """As `strop`, with --json."""
    return json.loads(strop(root, *arguments, "--json", exit_code=exit_code, **more))


def flow_runs(api: str | None = None, secret: str = SECRET) -> list[dict[str, Any]]:
    """Every flow run that a Prefect server knows of."""
    login = base64.b64encode(secret.encode()).decode()
    headers = {"content-type": "application/json", "authorization": f"Basic {login}"}
    request = urllib.request.Request(f"{api or prefect_api()}/flow_runs/filter", data=b"{}", headers=headers)
    with urllib.request.urlopen(request) as answer:
        runs: list[dict[str, Any]] = json.load(answer)
    return runs
