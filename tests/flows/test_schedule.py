"""A schedule over three ticks: trains, nothing new, a file dropped in, trains; and a second one refuses to start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
from support.processes import wait_for
from support.toyflow import collect, command, facts, flow_runs, make_toy_flow, strop, without_prefect

from flows.schedule import parse_schedule
from tasks.errors import StropError

pytestmark = pytest.mark.usefixtures("warm")


def test_a_schedule_trains_on_what_is_new_and_only_then(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    log = (tmp_path / "log").open("w")
    # nothing answers at these proxies, and httpx cannot use the second: what is on this machine is reached without one
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks://127.0.0.1:9"}
    environment = without_prefect(PREFECT_RUNNER_POLL_FREQUENCY="2", **proxies)
    in_background = [
        "/bin/sh",
        "-c",
        'trap "" INT; exec "$@"',
        "sh",
        *command("schedule", "--every", "20s"),
    ]  # as `... &` in a script
    process = subprocess.Popen(in_background, cwd=root, env=environment, stdout=log, stderr=log)

    def has_printed(line: str) -> Callable[[], bool]:
        return lambda: line in (tmp_path / "log").read_text() or process.poll() is not None

    try:
        wait_for(has_printed("Version 1 passed the gate and is now champion."), 180, "the schedule")
        second = subprocess.run(
            command("schedule", "--every", "20s"), cwd=root, env=environment, capture_output=True, text=True
        )
        assert second.returncode == 1
        assert second.stderr.startswith("strop: ")
        assert "a schedule is being served already" in second.stderr
        assert "Traceback" not in second.stderr
        wait_for(has_printed("Nothing is new: nothing was trained, version 1 serves."), 90, "the schedule")
        collect(root, "two.jsonl", 50)
        wait_for(has_printed("Version 2 passed the gate and is now champion."), 180, "the schedule")
        api = json.loads((root / ".strop/prefect/schedule.json").read_text())["url"]
        secret = (root / ".strop/prefect/secret").read_text().strip()
        assert {"Promoted", "NothingNew"} <= {run["state_name"] for run in flow_runs(api, secret)}
        assert secret not in (tmp_path / "log").read_text()
        family = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    written = (tmp_path / "log").read_text()
    assert code == 0, written
    assert "Traceback" not in written
    assert psutil.wait_procs(family, timeout=15)[1] == []
    log = (root / ".strop/logs/strop.log").read_text(encoding="utf-8").splitlines()
    shown = [line.split(" flows.steps: ")[1] for line in log if " INFO flows.steps: " in line]
    assert shown[0] == "Version 1 passed the gate and is now champion."
    assert shown[-1] == "Version 2 passed the gate and is now champion."
    assert all(datetime.fromisoformat(line.split()[0]).tzinfo for line in log)
    assert secret not in "".join(log)
    assert "Log of scheduled runs: .strop/logs/strop.log" in strop(root, "status")
    assert [entry["kind"] for entry in facts(root, "history")] == ["judged", "promoted"] * 2


def test_intervals_and_crons_are_checked_before_anything_starts() -> None:
    assert parse_schedule(None, None, "90s").interval == timedelta(seconds=90)
    assert parse_schedule(None, None, "1d").interval == timedelta(days=1)
    when = parse_schedule("0 2 * * 0", "Asia/Shanghai", None)
    assert (when.cron, when.timezone) == ("0 2 * * 0", "Asia/Shanghai")
    for cron, timezone, every in (
        (None, None, "soon"), (None, None, "0s"), ("0 2 * *", None, None), ("0 2 * * 0", "Asia/Nowhere", None),
        ("0 0 30 2 *", None, None), ("0 0 31 4,6 *", None, None), (None, None, "99999999999w"),
    ):  # fmt: skip
        with pytest.raises(StropError, match=r"uch as|rite a number"):
            parse_schedule(cron, timezone, every)


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    environment = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run(command("run"), cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PREFECT_API_URL=http://127.0.0.1:9/api" in done.stderr
    assert "Traceback" not in done.stderr
