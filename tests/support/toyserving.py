"""Toy responses of a server, and a store of records in the working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.feedback.records import Answer, ServedResponse
from tasks.feedback.settings import RecordSettings
from tasks.feedback.spool import read_spool
from tasks.feedback.store import FeedbackStore, Giver
from tasks.pii.settings import PiiSettings

SPOOL = Path(".strop/serve/spool")
APP = Giver("app")
SERVED: dict[str, Any] = {"name": "app", "kind": "served", "shape": "row", "family": "qa", "rating": "rating"}


def response(number: int = 1, text: str = "Lyon", **changes: Any) -> ServedResponse:
    """The answer to a question about a city."""
    prompt = {"family": "qa", "template": "qa_en_1", "fields": {"question": f"What is the name of city {number}?"}}
    values: dict[str, Any] = {
        "id": response_id(number),
        "key": "app",
        "when": 1_790_000_000.0 + number,
        "model": "toy@v3",
        "version": 3,
        "weights": "w" * 64,
        "engine": "embedded transformers 5.24.0",
        "prompt": prompt,
        "answers": (Answer(text, tokens=3, value=text),),
        "user": f"user {number}",
    }
    return ServedResponse(**values | changes)


def response_id(number: int) -> str:
    return f"resp_{number:032x}"


def store(settings: RecordSettings | None = None, pii: PiiSettings | None = None, **more: Any) -> FeedbackStore:
    return FeedbackStore(SPOOL, settings or RecordSettings(), pii or PiiSettings(), **more)


def records(kind: str | None = None) -> list[dict[str, Any]]:
    return [line.record for line in read_spool(SPOOL) if kind in (None, line.start[0])]


def fill_spool(text: str) -> None:
    """Two responses of one conversation and a shadow answer with a text; the second is corrected. And another one, rated."""
    spool = store()
    for number in (1, 2):
        spool.add_response(response(number, text=text, unit="c1"))
    spool.add_response(response(3, text=text, is_shadow=True, shadow_of=response_id(2)))
    spool.add_response(response(9))
    spool.add_feedback({"response_id": response_id(2), "type": "demonstration", "value": f"{text}！"}, APP)
    spool.add_feedback({"response_id": response_id(9), "value": True}, APP)
    spool.writer.close()
