"""The client of an engine's process: events in order, limits, cancellation, and processes that end or do not respond."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY

from tasks.serve.engine import client, messages
from tasks.serve.engine.client import WorkerEngine
from tasks.serve.engine.messages import WorkerSpec
from tasks.serve.engine.request import (
    ChatPrompt,
    Delta,
    EngineBusy,
    EngineFacts,
    EngineFailed,
    EngineLost,
    Event,
    Finished,
    Request,
    RequestRejected,
    Sampling,
    Started,
    TaskPrompt,
    TextPrompt,
    TokenLogprob,
)

SPEC = WorkerSpec("model", {}, "fp32", 8)
COMMAND = (sys.executable, "-m", "support.toyworker")
Scene = Callable[[WorkerEngine], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def paths_of_the_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


def play(scene: Scene, **options: Any) -> None:
    async def run() -> None:
        engine = await WorkerEngine.start(SPEC, command=COMMAND, **options)
        try:
            await asyncio.wait_for(scene(engine), 30)
        finally:
            await engine.close()

    asyncio.run(run())


async def events_of(engine: WorkerEngine, text: str, id: str = "") -> list[Event]:
    return [event async for event in engine.answer(Request(id or text, TextPrompt(text)))]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def test_events_arrive_in_order_and_errors_of_one_request_reach_only_it() -> None:
    async def scene(engine: WorkerEngine) -> None:
        assert engine.facts == EngineFacts("toy", "fp32", True, 64, ("topic",))
        assert engine.is_alive
        results = await asyncio.gather(
            *(events_of(engine, text) for text in ("你好 world", "refuse", "fail", "a b")), return_exceptions=True
        )
        expected = [Started(2), Delta(0, "你好"), Delta(0, "world"), Finished(0, "stop", "你好world", 2)]
        assert results[0] == expected
        assert isinstance(results[1], RequestRejected)
        assert (results[1].code, results[1].param) == ("prompt_too_long", "prompt")
        assert isinstance(results[2], EngineFailed)
        assert len(results[3]) == 4  # type: ignore[arg-type]
        assert engine._under_way == {}

    play(scene)


def test_closing_the_iterator_cancels_the_request_and_a_full_queue_refuses_the_next() -> None:
    async def scene(engine: WorkerEngine) -> None:
        waiting = engine.answer(Request("1", TextPrompt("wait")))
        assert await anext(waiting) == Started(1)
        with pytest.raises(EngineBusy):
            await events_of(engine, "a b")
        await waiting.aclose()  # type: ignore[attr-defined]
        assert (await events_of(engine, "cancelled"))[-1] == Finished(0, "stop", "1", 1)
        assert (await events_of(engine, "cancelled", "again"))[-1] == Finished(0, "stop", "1", 1), "one that has ended"

    play(scene, queue=1)


def test_a_process_that_ends_fails_its_requests_and_another_one_is_started() -> None:
    async def scene(engine: WorkerEngine) -> None:
        for kill in (lambda: os.kill(engine.pid, signal.SIGKILL), None):
            first = engine.pid
            waiting = asyncio.create_task(events_of(engine, "wait"))
            await until(lambda: bool(engine._under_way))
            other = asyncio.create_task(events_of(engine, "x" if kill else "die"))
            if kill:
                await other
                kill()
            with pytest.raises(EngineLost):
                await waiting
            if not kill:
                with pytest.raises(EngineLost):
                    await other
            assert not engine.is_alive
            with pytest.raises(EngineLost):
                await events_of(engine, "a")
            await until(lambda: engine.is_alive)
            assert engine.pid != first
            assert len(await events_of(engine, "a b")) == 4

    play(scene)


def test_a_process_that_does_not_respond_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.2)

    async def scene(engine: WorkerEngine) -> None:
        with pytest.raises(EngineLost):
            await events_of(engine, "hang")
        await until(lambda: engine.is_alive)

    play(scene)


def test_closing_waits_for_requests_under_way_but_not_for_ever() -> None:
    async def scene(engine: WorkerEngine) -> None:
        events = engine.answer(Request("1", TextPrompt("a b")))
        await anext(events)
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        with pytest.raises(EngineLost):
            await events_of(engine, "late")
        assert [event async for event in events][-1] == Finished(0, "stop", "ab", 2)
        await closing
        assert engine.pid == 0

    play(scene)

    async def ends_a_request(engine: WorkerEngine) -> None:
        waiting = asyncio.create_task(events_of(engine, "wait"))
        await until(lambda: bool(engine._under_way))
        await engine.close()
        with pytest.raises(EngineLost):
            await waiting

    play(ends_a_request, grace_seconds=0.05)


@pytest.mark.parametrize(
    ("command", "reason"), [(COMMAND, "holds no model"), (("/no/such/program",), "not be started")]
)
def test_a_version_that_cannot_be_loaded_is_reported_with_the_reason(command: tuple[str, ...], reason: str) -> None:
    with pytest.raises(EngineLost, match=reason):
        asyncio.run(WorkerEngine.start(WorkerSpec("missing", {}, "fp32", 8), command=command))


def test_requests_and_events_are_the_same_after_the_pipe() -> None:
    tools = ({"type": "function", "function": {"name": "wetter"}},)
    sampling = Sampling(8, 0.5, 0.9, 3, ("\n", "。"), 2, '{"type": "object"}')
    for prompt in (
        ChatPrompt(({"role": "user", "content": "你好 \ud800"},), tools),
        TextPrompt(""),
        TaskPrompt("topic", {"text": "x", "tools": [{"a": 1}]}, "topic-en-1", True),
    ):
        request = Request("resp_1", prompt, sampling, 2)
        assert messages.request_of(through_a_pipe(messages.request_as_json(request))) == request
    logprob = TokenLogprob("你", (228, 189, 160), -0.5, (("你", -0.5), ("好", -1.25)))
    for event in (
        Started(3, "topic-zh-1", True),
        Delta(1, "你"),
        Delta(0, "你", (logprob,)),
        Finished(0, "tool_calls", "…", 4, ({"name": "f", "arguments": "{}"},), [{"type": "PER"}], False, {"a": 0.5}),
    ):
        id, name, values = through_a_pipe({"event": messages.event_as_json("r", event)})["event"]
        assert (id, messages.event_of(name, values)) == ("r", event)


def through_a_pipe(message: Mapping[str, Any]) -> dict[str, Any]:
    return messages.content_of(messages.frame(message)[messages.HEADER.size :])


def test_the_gateway_s_side_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys, tasks.serve.engine.client; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
