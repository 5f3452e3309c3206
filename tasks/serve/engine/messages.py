"""What a gateway and its worker send each other: frames of JSON, each with its length. Imports no torch.

Commands: `{"add": request}`, `{"cancel": id}`, `{"close": true}`. Replies: `{"ready": facts}`, `{"refused": why}`,
`{"events": [[id, name, values], ...]}`; without events it is a sign of life.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tasks.serve.engine.request import (
    ChatPrompt,
    Delta,
    EngineBusy,
    EngineFacts,
    EngineFailed,
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

HEADER = struct.Struct("!I")
SIGN_OF_LIFE: dict[str, Any] = {"events": []}
PROMPTS = {"chat": ChatPrompt, "text": TextPrompt, "task": TaskPrompt}
EVENTS = {"started": Started, "delta": Delta, "finished": Finished}
_NAME_OF: dict[type, str] = {kind: name for name, kind in (*PROMPTS.items(), *EVENTS.items())}


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is started with.

    Args:
        folder: of the version's model.
        base: the section `base:` of params.yaml, whose base an adapter belongs to.
        precision: of its evaluation (metrics.json).
        engine: the name of the engine of its evaluation; another than `embedded` gives other answers.
        max_new_tokens: most tokens of an answer to a task, as in its evaluation.
        rows: rows that are decoded at once, as far as their keys and values fit into memory.
        plugins: modules of the project (`plugins:`).
    """

    folder: str
    base: Mapping[str, Any]
    precision: str
    max_new_tokens: int
    engine: str = "embedded"
    rows: int = 16
    plugins: tuple[str, ...] = ()


def frame(message: Mapping[str, Any]) -> bytes:
    content = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return HEADER.pack(len(content)) + content


def content_of(payload: bytes) -> dict[str, Any]:
    """The message in a frame, without its header."""
    message: dict[str, Any] = json.loads(payload.decode("utf-8", "surrogatepass"))
    return message


def request_as_json(request: Request) -> dict[str, Any]:
    return {**_values_of(request), "prompt": [_NAME_OF[type(request.prompt)], _values_of(request.prompt)],
            "sampling": _values_of(request.sampling)}  # fmt: skip


def request_of(document: Mapping[str, Any]) -> Request:
    name, values = document["prompt"]
    prompt = PROMPTS[name](**{key: _as_tuple(value) for key, value in values.items()})
    sampling = Sampling(**{key: _as_tuple(value) for key, value in document["sampling"].items()})
    return Request(**{**document, "prompt": prompt, "sampling": sampling})


def event_as_json(id: str, event: Event | Exception) -> list[Any]:
    if isinstance(event, RequestRejected):
        return [id, "rejected", [event.code, str(event), event.param]]
    if isinstance(event, EngineBusy):
        return [id, "busy", [event.retry_after]]
    if isinstance(event, Exception):
        return [id, "failed", [str(event)]]
    if isinstance(event, Delta) and not event.logprobs:
        return [id, "delta", {"choice": event.choice, "text": event.text}]
    return [id, _NAME_OF[type(event)], asdict(event)]


def event_of(name: str, values: Any) -> Event | Exception:
    if name == "rejected":
        return RequestRejected(*values)
    if name == "busy":
        return EngineBusy(*values)
    if name == "failed":
        return EngineFailed(*values)
    if name == "delta":
        return Delta(values["choice"], values["text"], tuple(map(_logprob_of, values.get("logprobs", ()))))
    if name == "finished":
        return Finished(**{**values, "calls": tuple(values["calls"])})
    return Started(**values)


def facts_of(document: Mapping[str, Any]) -> EngineFacts:
    return EngineFacts(**{name: _as_tuple(value) for name, value in document.items()})


def spec_of(document: Mapping[str, Any]) -> WorkerSpec:
    return WorkerSpec(**{**document, "plugins": tuple(document["plugins"])})


def _logprob_of(values: Mapping[str, Any]) -> TokenLogprob:
    top = tuple((text, logprob) for text, logprob in values["top"])
    return TokenLogprob(values["text"], tuple(values["bytes"]), values["logprob"], top)


def _values_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, as they are: `asdict` would copy whole conversations."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
