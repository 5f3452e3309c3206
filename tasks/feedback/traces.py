"""A response → its trace, under the names of OpenTelemetry's GenAI conventions. Pure; tasks/tracking/served_traces.py stores it.

The id follows from the response's: a response that is delivered twice is one trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.feedback.conventions import RESPONSE_ID
from tasks.feedback.records import Answer, ServedResponse

RESPONSE_TAG = "strop.response"
REVIEW_TAG = "strop.review"
"""Why a person should look at the answer."""
_REQUEST_NAMES = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
}
"""Sampling parameter → attribute."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL stores no NUL, and no encoding has half of a surrogate pair."""


@dataclass(frozen=True)
class ServedTrace:
    """A trace with one span."""

    response: str
    name: str
    start: float
    """Seconds since 1970."""
    end: float
    inputs: Any
    outputs: Any
    attributes: Mapping[str, Any]
    tags: Mapping[str, str]
    conversation: str = ""
    user: str = ""
    error: str = ""


def trace_id_of(response: str) -> str:
    return f"tr-{response.removeprefix('resp_')}"


def trace_of(response: ServedResponse, review: tuple[str, ...] = ()) -> ServedTrace:
    """The trace of a response; it has no text that the record does not have.

    Args:
        review: why a person should look at the answer.
    """
    operation = "text_completion" if response.path == "/v1/completions" else "chat"
    return ServedTrace(
        response=response.id,
        name=f"{operation} {response.model}",
        start=response.when,
        end=response.when + response.seconds,
        inputs=storable(_inputs(response)),
        outputs=storable(_outputs(response)),
        attributes=storable(_attributes(response, operation)),
        tags=storable(_tags(response, review)),
        conversation=response.unit,
        user=response.user,
        error=response.error,
    )


def storable(value: Any) -> Any:
    """A JSON value whose texts any database stores."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    return value


def _inputs(response: ServedResponse) -> Any:
    """None if the texts are omitted."""
    if response.omitted:
        return None
    return {name: value for name, value in response.prompt.items() if value or name == "messages"}


def _outputs(response: ServedResponse) -> Any:
    """In OpenAI's form for chats; else the raw answers, with what evaluation reads in them."""
    if response.omitted or not response.answers:
        return None
    if "messages" in response.prompt:
        return {
            "choices": [{"message": _message(answer), "finish_reason": answer.reason} for answer in response.answers]
        }
    answers = [_answer(answer) for answer in response.answers]
    return answers[0] if len(answers) == 1 else {"choices": answers}


def _message(answer: Answer) -> dict[str, Any]:
    if not answer.calls:
        return {"role": "assistant", "content": answer.text}
    calls = [{"type": "function", "function": dict(call)} for call in answer.calls]
    return {"role": "assistant", "content": answer.text or None, "tool_calls": calls}


def _answer(answer: Answer) -> dict[str, Any]:
    value = {} if answer.value is None else {"value": answer.value}
    calls = {"tool_calls": [dict(call) for call in answer.calls]} if answer.calls else {}
    return {"answer": answer.text, **value, **calls, "finish_reason": answer.reason}


def _attributes(response: ServedResponse, operation: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "strop",
        "gen_ai.request.model": response.model,
        "gen_ai.response.model": response.model,
        RESPONSE_ID: response.id,
        "gen_ai.response.finish_reasons": [answer.reason for answer in response.answers],
        "gen_ai.usage.input_tokens": response.prompt_tokens,
        "gen_ai.usage.output_tokens": sum(answer.tokens for answer in response.answers),
    }
    attributes |= {_REQUEST_NAMES[name]: value for name, value in response.sampling.items() if name in _REQUEST_NAMES}
    if response.unit:
        attributes["gen_ai.conversation.id"] = response.unit
    if response.error:
        attributes["error.type"] = response.error
    return attributes


def _tags(response: ServedResponse, review: tuple[str, ...]) -> dict[str, str]:
    """By which people search."""
    tags = {
        RESPONSE_TAG: response.id,
        "strop.version": str(response.version),
        "strop.weights": response.weights,
        "strop.engine": response.engine,
        "strop.key": response.key,
        "strop.user": response.user,
        "strop.conversation": response.unit,
        "strop.family": str(response.prompt.get("family") or ""),
        "strop.template": str(response.prompt.get("template") or ""),
        "strop.arm": response.arm,
        "strop.shadow": "true" if response.is_shadow else "",
        "strop.shadow_of": trace_id_of(response.shadow_of) if response.shadow_of else "",
        "strop.omitted": response.omitted,
        "strop.error": response.error,
        REVIEW_TAG: ", ".join(review),
    }
    return {name: value for name, value in tags.items() if value}
