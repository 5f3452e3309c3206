"""What the gateway serves is in the spool, and feedback on it is stored: gateway and recorder process together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.gateway import call, make_gateway
from support.toyserving import SPOOL, records

from tasks.feedback.records import FEEDBACK, RESPONSE
from tasks.feedback.settings import RecordSettings
from tasks.pii.settings import PiiSettings
from tasks.serve.app.application import make_application
from tasks.serve.record.client import RecorderClient
from tasks.serve.record.start import Start
from tasks.serve.spooled import Spooled

CHAT = {"model": "toy", "messages": [{"role": "user", "content": "写信给 li.lei@example.org"}], "user": "李雷"}
PREDICT = {"family": "topic", "fields": {"text": "The match ended 2:1."}, "metadata": {"conversation": "c 1"}}


def test_answers_and_feedback_on_them_are_in_the_spool_without_personal_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        client = RecorderClient(Start(str(SPOOL), RecordSettings(), PiiSettings(), retention_days=90))
        spooled = Spooled(client)
        app = make_application(replace(make_gateway(), recorder=spooled, feedback=spooled))
        early = await call(app, "POST", "/v1/feedback", {"response_id": "resp_1", "value": True})
        assert early.error == (503, "records_unavailable", None)
        await client.open()
        chat, predict = [await call(app, "POST", f"/v1/{path}", body) for path, body in REQUESTS]
        rating = {"response_id": chat.json["id"], "value": True}
        first, again = [await call(app, "POST", "/v1/feedback", rating) for _ in range(2)]
        assert (first.status, first.json["is_new"], again.json) == (200, True, {**first.json, "is_new": False})
        foreign = await call(app, "POST", "/v1/feedback", rating, key="rater")
        assert foreign.error == (404, "response_not_found", "response_id")
        wrong = await call(app, "POST", "/v1/feedback", {"response_id": predict.json["id"], "value": 3})
        assert wrong.error == (422, "invalid_value", "value")
        await client.close()

    asyncio.run(scenario())
    chat, predict = records(RESPONSE)
    (feedback,) = records(FEEDBACK)
    assert (chat["version"], chat["model"], chat["key"], chat["path"]) == (1, "toy@v1", "admin", "/v1/chat/completions")
    assert "li.lei" not in str(chat)
    assert "李雷" not in str(chat)
    assert predict["prompt"]["fields"] == PREDICT["fields"]
    assert len(predict["unit"]) == 32
    assert (feedback["response"], feedback["value"], feedback["user"]) == (chat["id"], True, predict["user"])


REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (("chat/completions", CHAT), ("predict", PREDICT))
