"""OpenLineage events: what a run and its stages report, and that a receiver that fails neither stops nor delays a run."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import lineage_events
from flows.lineage_events import reported_run, reported_stage
from tasks.errors import DataError
from tasks.lineage.openlineage import emitter
from tasks.lineage.openlineage.datasets import known_inputs
from tasks.lineage.openlineage.emitter import endpoint
from tasks.lineage.openlineage.events import Source

DVC_YAML = """
stages:
  curate: {cmd: x, deps: [data/raw, tasks/curate], outs: [data/curated]}
  render: {cmd: x, deps: [data/curated, data/templates], outs: [{data/rendered: {cache: true}}]}
"""
DVC_LOCK = """
stages:
  curate: {deps: [{path: data/raw, md5: r.dir}, {path: tasks/curate, md5: c.dir}], outs: [{path: data/curated, md5: d.dir}]}
"""
RAW = "outs: [{md5: r.dir, path: raw}]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lineage_events, "_source", lambda: Source("git@host:team/project.git", "c" * 40))
    (tmp_path / "data").mkdir()
    for name, text in (("dvc.yaml", DVC_YAML), ("dvc.lock", DVC_LOCK), ("data/raw.dvc", RAW)):
        (tmp_path / name).write_text(text)
    return tmp_path


def settings(target: str | None) -> Any:
    return SimpleNamespace(lineage=SimpleNamespace(openlineage=target), register_=SimpleNamespace(model_name="新闻"))


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def versions(datasets: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each["facets"]["version"]["datasetVersion"] for each in datasets}


def test_a_run_and_its_stages_report_their_datasets_by_hash_and_the_commit(folder: Path) -> None:
    with reported_run(settings("events/lineage.jsonl")):
        with reported_stage("curate") as stage:
            stage.is_cached = False
        with reported_stage("register") as stage:
            stage.outputs = {"新闻": "3"}
    lines = events(folder / "events/lineage.jsonl")
    error = [(line["job"]["name"], line["eventType"]) for line in lines]
    names = ("curate", "register")
    assert error == [
        ("retrain", "START"), *((n, kind) for n in names for kind in ("START", "COMPLETE")), ("retrain", "COMPLETE"),
    ]  # fmt: skip
    run, begun, done, _, registered, _ = lines
    assert versions(begun["inputs"]) == {"data/raw": "r.dir"}
    assert versions(done["inputs"]) == {"data/raw": "r.dir"}
    assert versions(done["outputs"]) == {"data/curated": "d.dir"}
    assert versions(registered["outputs"]) == {"新闻": "3"}
    assert done["run"]["facets"]["parent"]["run"]["runId"] == run["run"]["runId"]
    assert done["run"]["runId"] == begun["run"]["runId"] != run["run"]["runId"]
    assert done["run"]["facets"]["tags"]["tags"][0] == {"key": "cached", "value": "false", "source": "STROP"}
    for line in lines:
        location = line["job"]["facets"]["sourceCodeLocation"]
        assert (location["type"], location["url"], location["version"]) == (
            "git",
            "git@host:team/project.git",
            "c" * 40,
        )
        assert line["job"]["namespace"] == "strop://新闻"
        assert line["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/OpenLineage.json")


def test_a_stage_that_has_not_run_has_the_inputs_that_earlier_ones_wrote() -> None:
    described = {"render": {"deps": ["data/curated", {"data/round.json": {}}, "data/templates"]}}
    lock = {"curate": {"outs": [{"path": "data/curated", "md5": "d.dir"}]}}
    assert known_inputs(described, lock, {"data/raw": "r.dir"}, "render") == {"data/curated": "d.dir"}


def test_a_failure_is_reported_without_secrets_and_still_raised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hunter2-hunter2")
    with pytest.raises(DataError, match="no rows"), reported_run(settings("x.jsonl")), reported_stage("render"):
        raise DataError("no rows at https://me:hunter2-hunter2@host")
    lines = events(folder / "x.jsonl")
    assert [line["eventType"] for line in lines] == ["START", "START", "FAIL", "FAIL"]
    assert "no rows" in lines[2]["run"]["facets"]["errorMessage"]["message"]
    assert versions(lines[2]["inputs"]) == {"data/curated": "d.dir"}
    assert "hunter2" not in (folder / "x.jsonl").read_text()


def test_a_librarys_error_which_may_quote_a_row_is_reported_by_its_kind_alone(folder: Path) -> None:
    with pytest.raises(ValueError, match="张三"), reported_run(settings("x.jsonl")), reported_stage("render"):
        raise ValueError("Could not convert '张三住在北京' with type str: tried to convert to int64")
    (failure, _) = [line for line in events(folder / "x.jsonl") if line["eventType"] == "FAIL"]
    assert failure["run"]["facets"]["errorMessage"]["message"] == "ValueError"
    assert "张三" not in (folder / "x.jsonl").read_text(encoding="utf-8")


def test_nothing_happens_without_the_setting(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with reported_run(settings(None)), reported_stage("curate"):
        pass
    assert sorted(folder.rglob("*")) == before


@contextmanager
def receiver(status: int, delay: float = 0.0) -> Iterator[tuple[str, list[tuple[str, str | None, dict[str, Any]]]]]:
    """A receiver of this status, and its requests: path, key, event."""
    requests: list[tuple[str, str | None, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers["Authorization"], json.loads(body)))
            time.sleep(delay)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


def test_a_receiver_gets_the_events_in_order_with_its_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "key-of-the-receiver")
    with receiver(201) as (url, requests), reported_run(settings(url)), reported_stage("curate"):
        pass
    assert [event["eventType"] for _, _, event in requests][:2] == ["START", "START"]
    assert {(path, key) for path, key, _ in requests} == {("/api/v1/lineage", "Bearer key-of-the-receiver")}
    assert endpoint("https://host/own/path?x=1") == "https://host/own/path?x=1"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", ["refuses", "is not there", "is a folder", "is not set"])
def test_a_receiver_that_fails_stops_no_run_and_costs_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with receiver(500) as (url, requests):
        targets = {
            "refuses": url,
            "is not there": "http://127.0.0.1:9",
            "is a folder": "data",
            "is not set": "${NONE_SUCH}",
        }
        with reported_run(settings(targets[kind])):
            for name in ("curate", "render"):
                with reported_stage(name):
                    time.sleep(0.05)
        assert len(requests) == (1 if kind == "refuses" else 0)
    (line,) = warnings_of(caplog)
    assert "the run goes on without them" in line


def test_a_receiver_that_hangs_delays_no_run(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitter, "CLOSE_SECONDS", 0.2)
    with receiver(201, delay=1.0) as (url, _):
        began = time.monotonic()
        with reported_run(settings(url)):
            for _ in range(20):
                with reported_stage("curate"):
                    pass
            assert time.monotonic() - began < 0.9
    assert len(warnings_of(caplog)) == 1
