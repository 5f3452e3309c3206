"""A toy engine that serves: it answers from the request itself, word by word, and misbehaves on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from tasks.serve.engine.request import (
    ChatPrompt,
    Delta,
    EngineFacts,
    Event,
    Finished,
    Request,
    RequestRejected,
    Started,
    TaskPrompt,
    TextPrompt,
    TokenLogprob,
)

FACTS = EngineFacts("toy 1.0", "fp32", True, context_tokens=2048, families=("topic", "qa"))
LABELS = FACTS.__class__("toy 1.0", "fp32", True, families=("topic",), labels=("sport", "art"))
REWARD = FACTS.__class__("toy 1.0", "fp32", True, families=("qa",), labels=("reward",))


class ToyEngine:
    """Repeats the last message, the text or the fields. A text that begins with `call ` is answered by a call of that tool.

    Args:
        name: a word before each answer.
    """

    def __init__(self, name: str = "", facts: EngineFacts = FACTS) -> None:
        self.name, self.facts, self.is_alive = name, facts, True
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self.is_closed = False
        self.faults: dict[str, Exception] = {}
        """A word in a prompt → the error that is raised after the first piece of the answer."""
        self.early: list[Exception] = []
        """Errors of the next requests, before any event."""
        self.gate: asyncio.Event | None = None
        """If set: answers wait for it after their first piece."""
        self.pause = 0.0
        """Seconds after each piece."""
        self.pieces: Callable[[str], list[str]] = lambda text: [*text.replace(" ", "\0 ").split("\0")]

    async def answer(self, request: Request) -> AsyncIterator[Event]:
        assert not self.is_closed, "a request to a closed engine"
        self.requests.append(request)
        if self.early:
            raise self.early.pop(0)
        text = self._text(request)
        if "too long" in text:
            raise RequestRejected("prompt_too_long", "The prompt has 9 tokens more than the context.", "messages")
        try:
            yield Started(len(text.split()), template="en-0" if isinstance(request.prompt, TaskPrompt) else "")
            for choice in range(request.choices):
                async for event in self._choice(request, choice, text):
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.id)
            raise

    async def _choice(self, request: Request, choice: int, text: str) -> AsyncIterator[Event]:
        if self.facts.labels is not None:
            scores = {"reward": 1.5} if self.facts.labels == ("reward",) else {"sport": 0.75, "art": 0.25}
            yield Finished(choice, "stop", next(iter(scores)), 0, scores=scores)
            return
        pieces = self.pieces(text)[: request.sampling.max_tokens]
        for number, piece in enumerate(pieces):
            top = ((piece, -0.5), ("?", -1.5))[: request.sampling.logprobs or 0]
            logprob = (TokenLogprob(piece, tuple(piece.encode()), -0.5, top),)
            if not self._is_call(request, text):
                yield Delta(choice, piece, logprob if request.sampling.logprobs is not None else ())
            if number == 0 and self.gate is not None:
                await self.gate.wait()
            if fault := next((error for word, error in self.faults.items() if word in text), None):
                raise fault
            await asyncio.sleep(self.pause)
        yield self._finished(request, choice, "".join(pieces))

    def _finished(self, request: Request, choice: int, answer: str) -> Finished:
        tokens = len(self.pieces(answer)) + 1
        is_cut = request.sampling.max_tokens is not None and tokens > request.sampling.max_tokens
        calls: tuple[dict[str, Any], ...] = ()
        if self._is_call(request, answer):
            calls = ({"name": answer.split("call ")[1].split()[0], "arguments": json.dumps({"q": "北京"})},)
        value = answer if isinstance(request.prompt, TaskPrompt) and "?" not in answer else None
        is_unparsed = isinstance(request.prompt, TaskPrompt) and value is None
        reason = "tool_calls" if calls else "length" if is_cut else "stop"
        return Finished(choice, reason, answer, tokens, calls, value, is_unparsed)  # type: ignore[arg-type]

    def _is_call(self, request: Request, answer: str) -> bool:
        return isinstance(request.prompt, ChatPrompt) and bool(request.prompt.tools) and "call " in answer

    def _text(self, request: Request) -> str:
        prompt = request.prompt
        if isinstance(prompt, ChatPrompt):
            text = str(prompt.messages[-1]["content"])
        else:
            text = prompt.text if isinstance(prompt, TextPrompt) else " ".join(map(str, prompt.fields.values()))
        return f"{self.name} {text}".strip()

    async def close(self) -> None:
        self.is_closed = True
        self.is_alive = False
