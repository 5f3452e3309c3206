"""The challenger answers unseen, after the champion: recorded and compared, in no answer, and never before one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.gateway import Recording, call
from support.toyengine import ToyEngine
from support.toyledger import World, begin_canary, make_ledger, reaches, world
from support.versions import record

from tasks.feedback.records import ServedResponse
from tasks.serve.app.application import make_application
from tasks.serve.engine.request import EngineLost, Finished
from tasks.serve.shadow.agreement import agreement_of
from tasks.serve.shadow.shadow import Shadow, is_drawn
from tasks.serve.spooled import Spooled

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def shadowed(**settings: Any) -> AsyncIterator[tuple[World, Recording]]:
    """v1 serves, and v2 is the challenger."""
    recording = Recording()
    async with world(**{"shadow": {"share": 1.0, "load": 1.0, **settings.pop("shadow", {})}, **settings}) as here:
        gateway = here.gateway
        gateway.recorder = shadow = Shadow(
            here.settings, here.versions, recording, gateway.metrics, lambda: gateway.admission.load
        )
        here.app = make_application(gateway)
        task = asyncio.ensure_future(shadow.run())
        try:
            await here.serves(1)
            await reaches(lambda: here.factory.open == [1, 2])
            yield here, recording
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_ledger(2)


async def ask(here: World, text: str = "谁在服务", model: str = "tiny", **fields: Any) -> Any:
    return await call(
        here.app, "POST", CHAT, {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    )


async def count(here: World, name: str) -> float:
    """Of a metric with its labels; 0 before its first value."""
    lines = (await call(here.app, "GET", "/metrics")).content.decode().splitlines()
    return float(next((line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")), 0))


def engine_of(here: World, version: int) -> ToyEngine:
    return next(engine for number, engine in here.factory.engines if number == version)


class Client:
    """The client of a recorder, which keeps the records."""

    def __init__(self) -> None:
        self.records: list[ServedResponse] = []

    def record(self, response: ServedResponse) -> None:
        self.records.append(response)


def test_the_challenger_answers_the_same_request_unseen_and_both_are_recorded_and_compared() -> None:
    async def work() -> None:
        async with shadowed() as (here, recording):
            response = await ask(here, stream=True, seed=7, max_tokens=9, user="李雷")
            assert response.headers["x-strop-version"] == "1"
            assert "v2" not in response.content.decode()
            await reaches(lambda: len(recording.answers) == 2)
            (sent, unseen), (first, second) = recording.requests, recording.answers
            assert (sent.shadow_of, unseen.shadow_of, unseen.route.version) == ("", sent.request.id, 2)
            assert unseen.request.id not in (sent.request.id, "probe")
            same = [(each.request.prompt, each.request.sampling, each.unit, each.path) for each in (sent, unseen)]
            assert same[0] == same[1]
            client: Any = Client()
            spooled = Spooled(client)
            for served, answer in ((sent, first), (unseen, second)):
                spooled.on_request(served)
                spooled.on_answer(answer)
            seen, shadow = client.records
            assert (seen.is_shadow, seen.shadow_of, seen.answers[0].text) == (False, "", "v1 谁在服务")
            assert (shadow.is_shadow, shadow.shadow_of, shadow.answers[0].text) == (True, seen.id, "v2 谁在服务")
            assert (shadow.version, shadow.user, shadow.arm) == (2, "李雷", "")
            pair = '{champion="1",version="2"}'
            await ask(here, "v1 v2 same", temperature=1.0)
            await reaches(lambda: len(recording.answers) == 4)
            assert await count(here, f"strop_shadow_exact_count{pair}") == 1, "sampled answers are not compared"
            assert await count(here, f"strop_shadow_exact_sum{pair}") == 0
            assert 0 < await count(here, f"strop_shadow_token_f1_sum{pair}") < 1
            assert await count(here, 'strop_shadow_answers_total{version="2"}') == 2
            assert (await ask(here, model="tiny@v2")).json["model"] == "tiny@v2"
            assert len(recording.answers) == 5, "only the champion's answers have a shadow"

    asyncio.run(work())


def test_a_challenger_that_is_stuck_delays_no_answer_and_its_queue_is_bounded() -> None:
    async def work() -> None:
        async with shadowed(shadow={"queue": 3}) as (here, recording):
            engine = engine_of(here, 2)
            engine.gate = asyncio.Event()
            async with asyncio.timeout(5):
                responses = [await ask(here, str(number)) for number in range(10)]
            assert [response.json["model"] for response in responses] == ["tiny@v1"] * 10
            assert await count(here, 'strop_shadow_dropped_total{reason="queue"}') == 6
            engine.gate.set()
            await reaches(lambda: len(recording.answers) == 14)
            engine.early = [EngineLost()]
            await ask(here)
            await ask(here, "next")
            await reaches(lambda: len(recording.answers) == 17)
            assert await count(here, 'strop_shadow_dropped_total{reason="failed"}') == 1
            engine.is_alive = False
            await ask(here)
            await reaches(lambda: len(recording.answers) == 18)
            await asyncio.sleep(0.01)
            assert await count(here, 'strop_shadow_dropped_total{reason="not_loaded"}') == 1

    asyncio.run(work())


def test_under_load_the_challenger_is_cancelled_and_gets_no_requests() -> None:
    async def work() -> None:
        async with shadowed(shadow={"load": 0.25}, limits={"concurrency": 4}) as (here, recording):
            champion, challenger = engine_of(here, 1), engine_of(here, 2)
            challenger.gate = asyncio.Event()
            await ask(here)
            await reaches(lambda: len(challenger.requests) == 2)
            champion.gate = asyncio.Event()
            requests = [asyncio.ensure_future(ask(here, str(number))) for number in range(3)]
            await reaches(lambda: len(challenger.cancelled) == 1)
            champion.gate.set()
            await asyncio.gather(*requests)
            assert await count(here, 'strop_shadow_dropped_total{reason="load"}') >= 2
            assert [answer.route.version for answer in recording.answers] == [1] * 4

    asyncio.run(work())


def test_a_new_champion_has_no_shadow_of_itself_and_a_canary_shares_its_engine() -> None:
    async def work() -> None:
        async with shadowed() as (here, recording):
            await asyncio.to_thread(begin_canary, 2, 0.5)
            await reaches(lambda: here.versions._canary.canary is not None)
            responses = [await ask(here, str(number)) for number in range(12)]
            own = [response.headers["x-strop-version"] for response in responses].count("2")
            await reaches(lambda: len(recording.answers) == 24 - own)
            await asyncio.to_thread(record, "promoted", 2)
            await here.serves(2)
            await reaches(lambda: here.factory.open == [2])
            await ask(here)
            assert [version for version, _ in here.factory.engines] == [1, 2]
            assert recording.requests[-1].route.version == 2
            assert recording.requests[-1].shadow_of == ""

    asyncio.run(work())


def test_the_share_is_drawn_by_the_id() -> None:
    ids = [f"resp_{number * 2654435761 % 2**32:08x}{'0' * 24}" for number in range(1000)]
    assert 150 < sum(is_drawn(id_, 0.2) for id_ in ids) < 250
    assert not any(is_drawn(id_, 0.0) for id_ in ids)
    assert all(is_drawn(id_, 1.0) for id_ in ids)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"text": "巴黎。"}, {"text": "巴黎"}, (True, 1.0)),
        ({"text": "<think>x</think>Paris"}, {"text": "paris"}, (True, 1.0)),
        ({"text": "a b c d"}, {"text": "a b c x"}, (False, 0.75)),
        ({"scores": {"sport": 0.6, "art": 0.4}}, {"scores": {"sport": 0.9, "art": 0.1}}, (True, 1.0)),
        ({"scores": {"reward": 0.6}}, {"scores": {"reward": 0.9}}, None),
        ({"calls": ({"name": "f", "arguments": "{}"},)}, {"calls": ({"name": "g", "arguments": "{}"},)}, (False, 0.0)),
    ],
)
def test_agreement_is_of_what_evaluation_reads(one: Any, other: Any, expected: tuple[bool, float] | None) -> None:
    agreement = agreement_of(*(Finished(0, "stop", **{"text": "", "tokens": 1, **each}) for each in (one, other)))
    assert (agreement and (agreement.is_exact, agreement.token_f1)) == expected
