"""The loop of serving and learning: its population, its counts, and the whole story with a real gateway, ledger and toy engines."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.gateway import SECRETS, Recording, ToyFeedback, key_ring
from support.project import params, write_params
from support.toyengine import ToyEngine
from support.toyledger import ToyFactory, World, make_ledger, world
from support.versions import record

from flows.demo import loop as demo_loop
from flows.demo.client import open_client
from flows.demo.loop import run_loop
from flows.demo.population import Question, feedback_on, questions
from flows.demo.served_counts import by_minute, by_version
from flows.demo.traffic import Exchange, Traffic, read_exchanges
from flows.outcome import Outcome
from tasks.errors import StropError
from tasks.feedback.check import check_feedback
from tasks.model_store.ledger_entries import Entry
from tasks.serve.app.gateway import Gateway
from tasks.serve.engine.request import Request, TaskPrompt
from tasks.serve.server import GatewayServer, listen

LEARNED, NEW = ("business", "财经"), ("sport", "体育")
SECTIONS = (*LEARNED, *NEW)
ARTICLES = [{"text": f"{section} {number}", "label": section} for number in range(100) for section in SECTIONS]


def first(count: int) -> list[Question]:
    return list(islice(questions(ARTICLES, LEARNED, ARTICLES[:20]), count))


def test_the_population_asks_the_same_questions_each_time_and_none_twice() -> None:
    asked = first(200)
    assert asked == first(200)
    assert len({question.text for question in asked}) == 200
    assert not {question.text for question in asked} & {article["text"] for article in ARTICLES[:20]}
    assert all(question.section == question.text.split()[0] for question in asked)
    new = sum(question.section in NEW for question in asked) / 200
    assert 0.6 < new < 0.8


def test_some_users_ask_more_than_others_but_none_asks_most_questions() -> None:
    users = Counter(question.user for question in first(200))
    assert len(users) > 15
    assert 15 < users.most_common(1)[0][1] < 50


def test_a_wrong_answer_is_corrected_and_a_right_one_rated() -> None:
    said = [(question, feedback_on(question, "sport", SECTIONS)) for question in first(200)]
    wrong = [document for question, document in said if question.section != "sport" and document]
    right = [document for question, document in said if question.section == "sport" and document]
    assert {str(document["value"]) for document in right} == {"True"}
    corrections = [(q, d["value"]) for q, d in said if d and "type" in d]
    assert 0.75 < len(corrections) / len(wrong) < 0.95
    mistakes = [value for question, value in corrections if value != question.section]
    assert len(mistakes) <= 0.1 * len(corrections)
    for _, document in said:
        if document:
            check_feedback({"response_id": f"resp_{1:032x}", **document})


def test_who_says_something_does_not_depend_on_the_answer() -> None:
    """Otherwise the rows made of feedback would mostly be errors of the champion, and the gate would see a gain where none is."""
    for question in first(100):
        says = {feedback_on(question, answer, SECTIONS) is None for answer in SECTIONS}
        assert len(says) == 1


def exchange(number: int, began: float, section: str, answer: str, version: int, **more: Any) -> Exchange:
    return Exchange(number, 1000 + began, 0.5, "u", section, answer, version, **more)


STORY = [
    exchange(1, 0, "体育", "财经", 1, feedback="correction"),
    exchange(2, 10, "business", "business", 1, feedback="rating"),
    exchange(3, 70, "sport", "sport", 1),
    exchange(4, 71, "体育", "体育", 2),
    exchange(5, 72, "sport", "", 0, error="refused"),
]


def test_answers_are_counted_by_version_and_kind_of_section() -> None:
    lost, before, after = by_version(STORY, LEARNED)
    assert (lost.version, lost.requests) == (0, 1)
    assert (before.first, before.last, before.corrections, before.ratings) == (0, 70.5, 1, 1)
    assert (before.new.right, before.new.answers, before.learned.share) == (1, 2, 1.0)
    assert (after.new.share, after.learned.share) == (1.0, None)


def test_answers_are_counted_minute_by_minute() -> None:
    counts = [(each.minute, each.version, each.new.right, each.new.answers) for each in by_minute(STORY, LEARNED)]
    assert counts == [(0, 1, 0, 1), (1, 0, 0, 1), (1, 1, 1, 1), (1, 2, 1, 1)]


def test_a_request_without_an_answer_is_counted_with_its_error(tmp_path: Path) -> None:
    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/feedback":
            raise StropError("the records are away")
        if body["fields"]["text"].endswith("7"):
            raise ConnectionError("reset by 对方")
        return {"id": "resp_1", "value": "sport", "answer": "sport", "version": 3}

    file = tmp_path / "requests.jsonl"
    traffic = Traffic(post, questions(ARTICLES, LEARNED, []), SECTIONS, file)
    exchanges = traffic.ask(50)
    assert [each.number for each in exchanges] == list(range(1, 51))
    assert read_exchanges(file) == exchanges
    assert {each.error for each in exchanges if each.version == 0} == {"reset by 对方"}
    assert {each.feedback for each in exchanges if each.version == 3} == {"", "lost"}


def test_the_population_ends_when_the_articles_do(tmp_path: Path) -> None:
    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"id": "resp_1", "value": "sport", "answer": "sport", "version": 1}

    traffic = Traffic(post, questions(ARTICLES[:40], LEARNED, []), SECTIONS, tmp_path / "requests.jsonl")
    asked = traffic.ask(100)
    assert 20 < len(asked) < 40


class Engine(ToyEngine):
    """Version 1 has learned three of five sections, later ones all."""

    labels: dict[str, str]

    def _text(self, request: Request) -> str:
        if not isinstance(request.prompt, TaskPrompt):
            return "a probe"
        section = self.labels[request.prompt.fields["text"]]
        is_known = self.name != "v1" or section in demo_loop.FIRST_SECTIONS
        return section if is_known else "business"


class Factory(ToyFactory):
    async def load(self, entry: Entry) -> ToyEngine:
        engine = Engine(f"v{entry.version}")
        engine.labels = {article["text"]: article["label"] for article in demo_loop.news_articles()}
        self.engines.append((entry.version, engine))
        return engine


class AnyFeedback(ToyFeedback):
    async def submit(self, document: Any, caller: Any, idempotency_key: str) -> Any:
        self.submitted.append((dict(document), caller.name, idempotency_key))
        return {"id": f"fb_{len(self.submitted)}"}


class ToyServer:
    """A gateway that follows the ledger in the working directory, in a thread."""

    def __init__(self) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.feedback = AnyFeedback()
        self.ended = False
        self.world: World | None = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        async with world() as self.world:
            self.world.factory.load = Factory().load  # type: ignore[method-assign]
            gateway = Gateway(self.world.settings, self.world.versions, key_ring(), Recording(), self.feedback)
            server = GatewayServer(gateway)
            work = asyncio.ensure_future(server.serve([self.listener]))
            while not self.ended:
                await asyncio.sleep(0.01)
            server.should_exit = True
            await work

    def wait_for(self, version: int) -> None:
        while not (self.world and self.world.versions.readiness.version == version):
            self.thread.join(0.005)

    def client(self) -> Any:
        return open_client(self.url, SECRETS["admin"])


@contextmanager
def toy_serving(log: Path) -> Iterator[ToyServer]:
    server = ToyServer()
    server.thread.start()
    try:
        yield server
    finally:
        server.ended = True
        server.thread.join(10)


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
