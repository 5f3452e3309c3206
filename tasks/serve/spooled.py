"""Joins the gateway with the recorder process: what was served is written to the spool, and feedback refers to it.

spooled = Spooled(RecorderClient(start))
await spooled.client.open()
Gateway(settings, router, keys, recorder=spooled, feedback=spooled)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.feedback.check import FeedbackRefused
from tasks.feedback.records import Answer, ServedResponse
from tasks.serve.access.keys import Caller
from tasks.serve.app.interfaces import ServedAnswer, ServedRequest
from tasks.serve.engine.request import ChatPrompt, Finished, Sampling, TaskPrompt, TextPrompt
from tasks.serve.errors import ApiError
from tasks.serve.record.client import RecorderClient, RecorderLost


class Spooled:
    """The recorder, and the receiver of feedback."""

    def __init__(self, client: RecorderClient) -> None:
        self.client = client
        self._open: dict[str, ServedRequest] = {}

    def on_request(self, served: ServedRequest) -> None:
        self._open[served.request.id] = served

    def on_answer(self, answer: ServedAnswer) -> None:
        self.client.record(response_of(self._open.pop(answer.id), answer))

    async def submit(self, document: Mapping[str, Any], caller: Caller, idempotency_key: str) -> Mapping[str, Any]:
        """As Feedback.submit."""
        try:
            stored = await self.client.feedback(document, caller.name, caller.is_admin, idempotency_key)
        except FeedbackRefused as refusal:
            retry_after = 5 if refusal.status == 503 else None
            raise ApiError(
                refusal.status, refusal.code, _sentence(refusal.message), refusal.param, retry_after
            ) from None
        except RecorderLost:
            message = "The feedback is not stored, because the recorder is started again; send it again."
            raise ApiError(503, "records_unavailable", message, retry_after=5) from None
        return {"id": stored.id, "object": "feedback", "is_new": stored.is_new}


def response_of(served: ServedRequest, answer: ServedAnswer) -> ServedResponse:
    """The record of a request and its answers; the recorder process masks it and hashes user and conversation."""
    request, route, unit = served.request, answer.route, served.unit
    return ServedResponse(
        id=request.id,
        key=unit.caller,
        when=served.when,
        model=route.name,
        version=route.version,
        weights=route.weights,
        engine=route.engine.facts.engine,
        prompt=_prompt(request.prompt, answer.template),
        answers=tuple(_answer(each) for each in answer.answers),
        sampling=_sampling(request.sampling),
        path=served.path,
        user=unit.user,
        unit=unit.conversation,
        prompt_tokens=answer.prompt_tokens,
        seconds=answer.seconds,
        first_token_seconds=answer.first_seconds,
        is_shortened=answer.is_shortened,
        error=answer.error,
        is_shadow=bool(served.shadow_of),
        shadow_of=served.shadow_of,
        arm=route.arm,
        arm_unit=route.arm_unit,
    )


def _prompt(prompt: ChatPrompt | TextPrompt | TaskPrompt, template: str) -> dict[str, Any]:
    if isinstance(prompt, ChatPrompt):
        return {
            "messages": [dict(message) for message in prompt.messages],
            "tools": [dict(tool) for tool in prompt.tools],
        }
    if isinstance(prompt, TextPrompt):
        return {"text": prompt.text}
    return {"family": prompt.family, "template": template, "fields": dict(prompt.fields)}


def _answer(answer: Finished) -> Answer:
    value = dict(answer.scores) or answer.value
    return Answer(answer.text, answer.reason, answer.tokens, tuple(dict(call) for call in answer.calls), value)


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """What differs from greedy decoding without limits."""
    default = Sampling()
    return {name: value for name, value in vars(sampling).items() if value != getattr(default, name)}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
