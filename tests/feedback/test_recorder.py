"""The recorder process: what it confirmed survives its death, and the gateway never waits for it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from support.toyserving import SPOOL, records, response, response_id

from tasks.feedback.check import FeedbackRefused
from tasks.feedback.records import Answer
from tasks.feedback.settings import RecordSettings
from tasks.pii.settings import PiiSettings
from tasks.serve.record import client as recorder
from tasks.serve.record.client import RecorderClient, RecorderLost
from tasks.serve.record.process import Recorder
from tasks.serve.record.start import Start


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def started(**settings: object) -> RecorderClient:
    return RecorderClient(Start(str(SPOOL), RecordSettings.model_validate(settings), PiiSettings(), retention_days=90))


def ids() -> list[str]:
    return [record["id"] for record in records("response")]


def test_records_survive_a_kill_of_the_recorder_and_it_starts_again() -> None:
    async def scenario() -> None:
        client, deadline = started(sync_seconds=0.2), time.monotonic() + 30
        await client.open()
        for number in range(50):
            client.record(response(number, text="里昂 li.lei@example.org"))
        assert await client.flush() == 50
        stored = await client.feedback({"response_id": response_id(1), "value": True}, "app")
        assert stored.is_new
        with pytest.raises(FeedbackRefused):
            await client.feedback({"response_id": response_id(99), "value": True}, "app")
        for number in range(50, 100):
            client.record(response(number))
        while client._confirmed < 100:  # an interval later
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert client._process is not None
        os.kill(client._process.pid, signal.SIGKILL)
        for number in range(100, 110):  # sent to a process that is dead or dying
            client.record(response(number))
            await asyncio.sleep(0)
        while client.restarts == 0 or client._writer is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        known = set(ids())
        assert {response_id(number) for number in range(100)} <= known
        missing = 110 - len(known)
        assert missing <= client.counts["dropped"] <= 10
        client.record(response(200))
        again = await client.feedback({"response_id": response_id(1), "value": True}, "app")
        assert (again.id, again.is_new) == (stored.id, False)
        client.record(response(201))
        await client.close()

    asyncio.run(scenario())
    assert response_id(200) in ids()
    assert response_id(201) in ids()  # what was sent before the end is written
    assert b"li.lei" not in b"".join(path.read_bytes() for path in SPOOL.glob("*/*.records"))


def test_a_record_that_fails_does_not_end_the_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    value: list[object] = ["里昂 li.lei@example.org"]
    for _ in range(900):
        value = [value]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = Recorder(started().start, theirs)
        for number, each in enumerate((value, "Lyon"), start=1):
            answer = Answer("Lyon", value=each)
            process._take({"response": response(number, answers=(answer,)).as_json()})
        assert (process.written, process.lost) == (1, 1)
        monkeypatch.setattr(process.store, "add_feedback", lambda *arguments: 1 / 0)
        process._take({"feedback": {}, "key": "app", "is_admin": False, "idempotency_key": "", "ticket": 7})
        (reply,) = process._replies
        assert (reply["ticket"], reply["refused"]["status"]) == (7, 500)
        process.store.writer.close()
    assert ids() == [response_id(2)]


def test_a_gateway_never_waits_for_a_recorder_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "REPLY_SECONDS", 0.3)

    async def scenario() -> None:
        client = started(queue_bytes=65_536)
        await client.open()
        assert client._process is not None
        os.kill(client._process.pid, signal.SIGSTOP)
        try:
            large = response(1, text="x" * 20_000)
            began = time.monotonic()
            for _ in range(200):
                client.record(large)
                await asyncio.sleep(0)
            assert time.monotonic() - began < 2
            assert client.counts["dropped"] > 100
            with pytest.raises(RecorderLost):
                await client.feedback({"response_id": response_id(1), "value": True}, "app")
        finally:
            os.kill(client._process.pid, signal.SIGKILL)
        await client.close()

    asyncio.run(scenario())
