"""The loop of serving and learning: the story with a real gateway and ledger and toy engines, and the demo itself."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.gateway import SECRETS, make_gateway, served
from support.project import REPOSITORY, params, write_params
from support.toyengine import ToyEngine
from support.toyflow import command
from support.toyledger import make_ledger
from support.toyloop import toy_serving
from support.versions import record

from flows.demo import loop as demo_loop
from flows.demo.client import open_client
from flows.demo.loop import run_loop
from flows.demo.population import Question
from flows.demo.served_counts import by_version
from flows.demo.server import serving
from flows.demo.traffic import read_exchanges
from flows.outcome import Outcome
from tasks.errors import StropError
from tasks.serve.engine.request import TaskPrompt


@pytest.mark.parametrize("has_openai", [True, False])
def test_both_clients_send_the_same_requests(has_openai: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: has_openai or None)
    engine = ToyEngine("体育")
    question = Question(1, "reader-01", "门将 saves a penalty", "体育")
    with (
        served(make_gateway(engine)) as server,
        open_client(f"{server.url}/v1", SECRETS["admin"]) as (name, post),
    ):
        assert ("openai client" in name) == has_openai
        answer = post("/predict", question.body)
        assert (answer["value"], answer["version"]) == (f"体育 {question.text}", 1)
        with pytest.raises(Exception, match=r"400.*Unknown parameter: `colour`\. Known: family, fields, json_schema"):
            post("/predict", {**question.body, "colour": "red"})
    (request,) = engine.requests
    assert isinstance(request.prompt, TaskPrompt)
    assert (request.prompt.fields, request.prompt.shortens) == ({"text": question.text}, True)
    (unit,) = server.gateway.router.units  # type: ignore[attr-defined]
    assert (unit.user, unit.conversation) == (question.user, "question 1")


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = r"strop serve ended with exit code 1: .*no params\.yaml"
    with pytest.raises(StropError, match=message) as raised, serving(tmp_path / "serve.log"):
        pass
    assert "\n" not in str(raised.value)


@pytest.mark.timeout(60)
def test_the_story_every_request_is_answered_by_the_version_that_served_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_ledger(2)
    write_params(tmp_path, params("base", []))
    monkeypatch.setattr("flows.demo.traffic.PAUSE_SECONDS", 0.0)
    shown = Console(record=True, width=120, file=io.StringIO())
    during: list[int] = []

    def run(show: Any) -> Outcome:
        """Judges and promotes version 2 while the population asks."""
        monkeypatch.chdir(Path("inbox" if Path("inbox").exists() else "loop"))  # as a run, to a folder of its own
        before = len(read_exchanges(tmp_path / demo_loop.EXCHANGES))
        while (count := len(read_exchanges(tmp_path / demo_loop.EXCHANGES))) < before + 12:
            threading.Event().wait(0.005)
        monkeypatch.chdir(tmp_path)
        record("promoted", 2)
        during.append(count)
        return Outcome("promoted", 2, 2)

    monkeypatch.setattr(demo_loop, "_judged", lambda: 1)
    assert run_loop(shown.print, toy_serving, run, counts=(40, 20)) == 0  # type: ignore[arg-type]
    exchanges = read_exchanges(demo_loop.EXCHANGES)
    assert [each.number for each in exchanges] == list(range(1, len(exchanges) + 1))
    assert len(exchanges) >= during[0] + 20
    assert {each.version for each in exchanges[:40]} == {1}
    assert {each.version for each in exchanges[-20:]} == {2}
    before, after = by_version(exchanges, demo_loop.FIRST_SECTIONS)
    assert (before.new.share, before.learned.share, after.new.share, after.learned.share) == (0, 1, 1, 1)
    text = shown.export_text()
    assert f"{len(exchanges)} of {len(exchanges)} requests answered" in text
    assert demo_loop.PICTURE.read_text().startswith("<?xml")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_learns_from_what_the_population_says(tmp_path: Path) -> None:
    """`strop demo --loop`, as the README has it; then nothing is trained again."""
    folder = tmp_path / "demo"
    arguments = ["demo", "--loop", "--folder", str(folder)]
    first = subprocess.run(command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "Version 2 passed the gate and is now champion" in first.stdout
    exchanges = read_exchanges(folder / demo_loop.EXCHANGES)
    assert [each for each in exchanges if each.error or each.feedback == "lost"] == []
    before, after = by_version(exchanges, demo_loop.FIRST_SECTIONS)
    assert (before.version, after.version) == (1, 2)
    assert before.new.right == 0
    assert after.new.share is not None
    assert after.new.share > 0.5
    again = subprocess.run(command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert f"{len(exchanges)} of {len(exchanges)} requests answered" in again.stdout
