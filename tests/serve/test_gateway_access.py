"""Who gets an answer, and how many at once: keys, hosts, limits, time limits, cancelled requests, the end of the server."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.gateway import SECRETS, Recording, Response, call, make_gateway
from support.toyengine import ToyEngine

from tasks.errors import ConfigError
from tasks.serve.access.keys import open_key_ring
from tasks.serve.app.application import make_application
from tasks.serve.app.gateway import Gateway
from tasks.serve.errors import ApiError
from tasks.serve.settings import KeySettings

CHAT = "/v1/chat/completions"
SAY: dict[str, Any] = {"model": "toy", "messages": [{"role": "user", "content": "你好 x"}]}


def get(path: str, gateway: Gateway | None = None, **options: Any) -> Response:
    return asyncio.run(call(make_application(gateway or make_gateway()), "GET", path, **options))


@pytest.mark.parametrize(
    ("key", "headers", "expected"),
    [
        ("", {}, (401, "invalid_api_key", None)),
        ("", {"authorization": "Basic " + "a" * 64}, (401, "invalid_api_key", None)),
        ("", {"authorization": "Bearer"}, (401, "invalid_api_key", None)),
        ("", {"authorization": "Bearer " + "a" * 63}, (401, "invalid_api_key", None)),
        ("rater", {}, (403, "missing_role", None)),
        ("app", {"host": "evil.example"}, (421, "host_not_allowed", None)),
        ("app", {"origin": "http://evil.example"}, (403, "origin_not_allowed", None)),
    ],
)
def test_a_request_without_the_right_key_or_host_is_refused(
    key: str, headers: dict[str, str], expected: tuple[int, str, None]
) -> None:
    assert get("/v1/models", key=key, headers=headers).error == expected


def test_only_an_administrator_reads_the_metrics() -> None:
    assert get("/metrics", key="app").error == (403, "missing_role", None)
    assert get("/metrics", key="admin").status == 200


def test_probes_need_no_key_and_no_host_name() -> None:
    engine = ToyEngine()
    gateway = make_gateway(engine)
    gateway.router.problems = ("the ledger is away",)  # type: ignore[attr-defined]
    options: dict[str, Any] = {"key": "", "headers": {"host": "10.0.0.7:8000"}}
    assert get("/health", gateway, **options).json == {"status": "ok"}
    ready = get("/ready", gateway, **options)
    assert (ready.status, ready.json) == (200, {"status": "ready", "version": 1, "problems": ["the ledger is away"]})
    engine.is_alive = False
    assert get("/ready", gateway, **options).status == 503


def test_the_project_has_a_key_that_only_its_user_can_read(tmp_path: Path) -> None:
    path = tmp_path / "serve" / "key"
    ring = open_key_ring([], path, {})
    key = path.read_text().strip()
    assert len(key) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ring.require([(b"authorization", f"bearer {key}".encode())], "admin").name == "project"
    assert key not in str(vars(ring))
    open_key_ring([], path, {})
    assert path.read_text().strip() == key


def test_keys_of_variables_are_taken_from_the_environment(tmp_path: Path) -> None:
    environment = {"APP_KEY": "k" * 40, "SHORT": "k"}
    settings = KeySettings(name="app", api_key_env="APP_KEY", roles=("predict",))
    ring = open_key_ring([settings], tmp_path / "s" / "key", environment)
    assert environment == {"SHORT": "k"}
    with pytest.raises(ApiError, match="lacks the role"):
        ring.require([(b"authorization", b"Bearer " + b"k" * 40)], "feedback")
    for name, what in (("SHORT", "shorter than 32"), ("ABSENT", "is not set")):
        with pytest.raises(ConfigError, match=what):
            open_key_ring([KeySettings(name="x", api_key_env=name)], tmp_path / "s" / "key", environment)


def test_a_body_that_is_too_large_is_refused_with_or_without_a_length() -> None:
    app = make_application(make_gateway(body_bytes=1000))
    for body in (b"x" * 1001, [b"x" * 400] * 3):
        assert asyncio.run(call(app, "POST", CHAT, body)).error == (413, "body_too_large", None)
    chunks = [b'{"model": "toy", "messages": [{"role": "user",', b' "content": "x"}]}']
    assert asyncio.run(call(app, "POST", CHAT, chunks)).status == 200


async def reaches(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def run(work: Callable[[ToyEngine, Gateway, Any], Coroutine[Any, Any, None]], **limits: Any) -> None:
    """Runs a test with an engine whose answers wait for its gate."""

    async def begin() -> None:
        engine = ToyEngine()
        engine.gate = asyncio.Event()
        gateway = make_gateway(engine, **limits)
        async with asyncio.timeout(10):
            await work(engine, gateway, make_application(gateway))

    asyncio.run(begin())


def test_requests_above_the_limits_wait_or_are_told_when_to_return() -> None:
    async def work(engine: ToyEngine, gateway: Gateway, app: Any) -> None:
        requests = [asyncio.ensure_future(call(app, "POST", CHAT, SAY)) for _ in range(3)]
        await reaches(lambda: gateway.admission.waiting == 1)
        assert len(engine.requests) == 2
        refused = await call(app, "POST", CHAT, SAY)
        assert refused.error == (429, "queue_full", None)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert engine.gate is not None
        engine.gate.set()
        assert [response.status for response in await asyncio.gather(*requests)] == [200, 200, 200]
        assert (gateway.admission.active, gateway.admission.waiting, gateway.open_requests) == (0, 0, 0)

    run(work, concurrency=2, queue=1)


def test_a_request_that_takes_too_long_ends_and_frees_its_place() -> None:
    async def work(engine: ToyEngine, gateway: Gateway, app: Any) -> None:
        assert (await call(app, "POST", CHAT, SAY)).error == (504, "timeout", None)
        assert len(engine.cancelled) == 1
        assert gateway.admission.active == 0

    run(work, request_seconds=0.05)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_client_that_leaves_cancels_its_request(is_streamed: bool) -> None:
    async def work(engine: ToyEngine, gateway: Gateway, app: Any) -> None:
        has_left = asyncio.Event()
        messages = [{"type": "http.request", "body": str({**SAY, "stream": is_streamed}).encode()}]
        messages[0]["body"] = (
            messages[0]["body"].replace(b"'", b'"').replace(b"True", b"true").replace(b"False", b"false")
        )

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await has_left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            pass

        lines = [(b"host", b"localhost"), (b"authorization", b"Bearer " + SECRETS["app"].encode())]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": lines, "root_path": ""}
        request = asyncio.ensure_future(app(scope, receive, send))
        await reaches(lambda: bool(engine.requests))
        await asyncio.sleep(0.005)
        has_left.set()
        await request
        assert engine.cancelled == [engine.requests[0].id]
        recorder = gateway.recorder
        assert isinstance(recorder, Recording)
        assert recorder.answers[0].error == "cancelled"
        assert gateway.admission.active == 0

    run(work)


def test_an_engine_that_restarts_answers_503() -> None:
    async def work(engine: ToyEngine, gateway: Gateway, app: Any) -> None:
        engine.is_alive = False
        response = await call(app, "POST", CHAT, SAY)
        assert response.error == (503, "engine_lost", None)
        assert response.headers["retry-after"] == "5"

    run(work)


def test_a_server_that_ends_completes_answers_and_refuses_new_requests() -> None:
    async def work(engine: ToyEngine, gateway: Gateway, app: Any) -> None:
        request = asyncio.ensure_future(call(app, "POST", CHAT, {**SAY, "stream": True}))
        await reaches(lambda: bool(engine.requests))
        drain = asyncio.ensure_future(gateway.drain())
        await asyncio.sleep(0)
        assert (await call(app, "POST", CHAT, SAY)).error == (503, "draining", None)
        assert (await call(app, "GET", "/ready")).status == 503
        assert not drain.done()
        assert engine.gate is not None
        engine.gate.set()
        assert (await request).content.endswith(b"data: [DONE]\n\n")
        await drain

    run(work)


def test_a_drain_ends_at_its_time_limit() -> None:
    async def work(engine: ToyEngine, gateway: Gateway, app: Any) -> None:
        request = asyncio.ensure_future(call(app, "POST", CHAT, SAY))
        await reaches(lambda: bool(engine.requests))
        await gateway.drain()
        assert not request.done()
        request.cancel()

    run(work, drain_seconds=0.05)
