"""A canary answers its units beside the champion, on a real ledger; where it cannot, the champion answers and the arm stays."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from support.gateway import Recording, call
from support.toyledger import World, begin_canary, end_canary, make_ledger, reaches, world
from support.versions import record

from tasks.serve.app.opening import opening_of
from tasks.serve.engine.request import ChatPrompt, EngineFailed, EngineLost, RequestRejected, TaskPrompt, TextPrompt
from tasks.serve.versions.loaded import VersionRefused

CHAT = "/v1/chat/completions"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_ledger(3)


async def ask(here: World, unit: str = "", model: str = "tiny", **fields: Any) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": f"你好 {unit}"}], **fields}
    return await call(here.app, "POST", CHAT, body)


async def versions_of(here: World, units: range) -> list[int]:
    responses = [await ask(here, str(unit)) for unit in units]
    assert {response.status for response in responses} == {200}
    return [int(response.headers["x-strop-version"]) for response in responses]


async def ready(here: World) -> Any:
    return (await call(here.app, "GET", "/ready")).json


def recorded(here: World) -> list[tuple[int, str]]:
    """The version and the arm of each answer."""
    assert isinstance(here.gateway.recorder, Recording)
    return [(answer.route.version, answer.route.arm.partition(":")[0]) for answer in here.gateway.recorder.answers]


def test_each_unit_is_answered_by_one_version_until_the_canary_ends(ledger: None) -> None:
    async def work() -> None:
        async with world(recorder=Recording()) as here:
            await here.serves(1)
            id_ = await asyncio.to_thread(begin_canary, 2, 0.5)
            await reaches(lambda: here.factory.open == [1, 2])
            first, again = [await versions_of(here, range(30)) for _ in range(2)]
            assert first == again
            assert 5 <= first.count(2) <= 25
            assert recorded(here)[:30] == [(each, {1: "champion", 2: "canary"}[each]) for each in first]
            assert {answer.route.arm.partition(":")[2] for answer in here.gateway.recorder.answers} == {id_[:12]}
            assert len({answer.route.arm_unit for answer in here.gateway.recorder.answers}) == 30
            later = {"role": "user", "content": "还有呢"}
            for unit in range(10):
                messages = [{"role": "user", "content": f"你好 {unit}"}, {"role": "assistant", "content": "x"}, later]
                assert int((await ask(here, messages=messages)).headers["x-strop-version"]) == first[unit]
            pinned = await ask(here, str(first.index(2)), "tiny@v1")
            assert (pinned.json["model"], recorded(here)[-1]) == ("tiny@v1", (1, ""))
            (card, *_) = (await call(here.app, "GET", "/v1/models")).json["data"]
            assert card["strop"]["canary"] == {"version": 2, "share": 0.5, "by": "conversation", "is_loaded": True}
            await asyncio.to_thread(end_canary)
            await reaches(lambda: here.factory.open == [1])
            assert set(await versions_of(here, range(30))) == {1}
            assert recorded(here)[-1] == (1, "")
            assert (await ready(here))["problems"] == []

    asyncio.run(work())


def test_a_user_is_a_unit_whatever_the_conversation(ledger: None) -> None:
    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            await asyncio.to_thread(begin_canary, 2, 0.5, "user")
            await reaches(lambda: here.factory.open == [1, 2])
            by_user = [
                {(await ask(here, f"{user} {number}", user=f"用户{user}")).json["model"] for number in range(4)}
                for user in range(12)
            ]
            assert {len(models) for models in by_user} == {1}
            assert len(set().union(*by_user)) == 2

    asyncio.run(work())


def test_the_champion_answers_in_the_place_of_a_canary_that_cannot(
    ledger: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def work() -> None:
        async with world(recorder=Recording()) as here:
            await here.serves(1)
            here.factory.refused = {2: VersionRefused("tiny@v2 cannot be loaded: 缺少签名")}
            await asyncio.to_thread(begin_canary, 2, 0.99)
            await reaches(lambda: "缺少签名" in caplog.text)
            assert set(await versions_of(here, range(5))) == {1}
            assert recorded(here).count((1, "canary")) >= 3, "the arm stays"
            assert await ready(here) == {
                "status": "ready",
                "version": 1,
                "problems": ["the canary tiny@v2 is not loaded: tiny@v1 answers in its place"],
            }
            here.factory.refused = {}
            here.versions._beside._refusals.clear()
            here.versions._changed.set()
            await reaches(lambda: here.factory.open == [1, 2])
            assert 2 in await versions_of(here, range(5))
            engine = here.factory.engines[-1][1]
            engine.is_alive = False
            assert set(await versions_of(here, range(5))) == {1}
            assert "has lost its engine" in (await ready(here))["problems"][0]
            assert caplog.text.count("the canary tiny@v2 has lost its engine, which is restarted") == 1
            engine.is_alive = True
            assert 2 in await versions_of(here, range(5))
            assert (await ready(here))["problems"] == []

    asyncio.run(work())


@pytest.mark.parametrize("stream", [False, True])
def test_a_canary_that_fails_before_its_answer_begins_is_replaced_within_the_request(
    ledger: None, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    async def work() -> None:
        async with world(recorder=Recording()) as here:
            await here.serves(1)
            await asyncio.to_thread(begin_canary, 2, 0.99)
            await reaches(lambda: here.factory.open == [1, 2])
            unit = str((await versions_of(here, range(8))).index(2))
            engine = here.factory.engines[-1][1]
            engine.early = [
                EngineLost(),
                EngineFailed("not finite"),
                RequestRejected("unknown_family", "No such family."),
            ]
            for _ in range(3):
                response = await ask(here, unit, stream=stream)
                assert (response.status, response.headers["x-strop-version"]) == (200, "1")
                assert '"content":"v1' in response.content.decode()
                assert recorded(here)[-1] == (1, "canary")
            assert caplog.text.count("the canary tiny@v2 fails (EngineLost); the champion answers in its place") == 1
            metrics = (await call(here.app, "GET", "/metrics")).content.decode()
            assert "strop_canary_fallbacks_total 2.0" in metrics
            assert 'strop_answers_total{version="1"}' in metrics
            engine.faults = {"你好": EngineLost()}
            failed = await ask(here, unit)
            assert failed.error == (503, "engine_lost", None), "its answer had begun"

    asyncio.run(work())


def test_a_canary_takes_no_place_of_pinned_versions_and_serves_at_once_when_promoted(ledger: None) -> None:
    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            await asyncio.to_thread(begin_canary, 2, 0.5)
            await reaches(lambda: here.factory.open == [1, 2])
            assert (await ask(here, model="tiny@v3")).json["model"] == "tiny@v3"
            assert (await ask(here, model="tiny@v2")).json["model"] == "tiny@v2"
            assert here.factory.open == [1, 2, 3]
            await asyncio.to_thread(record, "promoted", 2)
            await here.serves(2)
            await reaches(lambda: here.factory.open == [2, 3])
            assert [version for version, _ in here.factory.engines] == [1, 2, 3], "it was not loaded again"
            assert set(await versions_of(here, range(10))) == {2}

    asyncio.run(work())


def test_no_unit_has_an_arm_while_another_version_serves_than_the_canary_is_compared_with(ledger: None) -> None:
    async def work() -> None:
        async with world(recorder=Recording()) as here:
            await here.serves(1)
            here.factory.refused = {2: VersionRefused("tiny@v2 cannot be loaded")}
            await asyncio.to_thread(record, "promoted", 2)
            await asyncio.to_thread(begin_canary, 3, 0.5)
            await reaches(lambda: here.factory.open == [1, 3])
            assert set(await versions_of(here, range(10))) == {1}
            assert set(recorded(here)) == {(1, "")}

    asyncio.run(work())


def test_a_conversation_is_known_by_its_opening() -> None:
    def chat(*turns: str) -> ChatPrompt:
        roles = ["system", *["user", "assistant"] * 3]
        return ChatPrompt(tuple({"role": role, "content": text} for role, text in zip(roles, turns, strict=False)))

    assert opening_of(chat("短", "你好")) == opening_of(chat("短", "你好", "您好", "再见")) == ("短", "你好")
    assert opening_of(TextPrompt("Once")) == ("", "Once")
    history = {"history": [["user", "你好"], ["assistant", "您好"]], "input": "再见", "system": "短"}
    assert opening_of(TaskPrompt("d", history)) == opening_of(TaskPrompt("d", {"input": "你好", "system": "短"}))
    messages = {"messages": [{"role": "system", "content": "短"}, {"role": "user", "content": "你好"}, "odd"]}
    assert opening_of(TaskPrompt("d", messages)) == ("短", "你好")
    one, other = [opening_of(TaskPrompt("qa", {"question": "Who?", "context": text})) for text in ("甲", "乙")]
    assert one != other
    assert opening_of(TaskPrompt("qa", {"history": "no list", "messages": None})) == ("", '["qa",{"messages":null}]')
