"""Requests → the tokens that a version gets, and what reads its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.base.heads import text_ids
from tasks.errors import ConfigError
from tasks.prompts.chat_prompts import Prompts
from tasks.prompts.family_prompts import FamilyPrompts
from tasks.prompts.request_fields import RequestError
from tasks.scoring.read_answer import AnswerReader, opens_thought
from tasks.serve.engine.request import ChatPrompt, Message, Request, RequestRejected, TaskPrompt, TextPrompt

PARAM_OF = {"unknown_family": "family", "unknown_template": "template"}


@dataclass(frozen=True)
class Rendered:
    ids: list[int]
    reader: AnswerReader
    limit: int
    """Most tokens of prompt and answer."""
    template: str = ""
    is_shortened: bool = False
    is_task: bool = False


class RequestRenderer:
    """Renders the requests to one version.

    Args:
        templates: its templates.json; empty where it has none.
        labels: of its head; None: it generates text.
        max_new_tokens: of an answer to a task.
        context: of the model, in tokens; None: no limit.
    """

    def __init__(
        self,
        tokenizer: Any,
        templates: Mapping[str, Any],
        labels: tuple[str, ...] | None,
        max_new_tokens: int,
        context: int | None,
    ) -> None:
        self.tokenizer, self.labels, self.max_new_tokens, self.context = tokenizer, labels, max_new_tokens, context
        self.families = FamilyPrompts(tokenizer, templates, context) if "families" in templates else None
        self.prompts = Prompts(tokenizer, bool(templates.get("thinking"))) if labels is None else None

    def render(self, request: Request) -> Rendered:
        """Raises RequestRejected."""
        prompt = request.prompt
        _require_unicode(prompt)
        try:
            if isinstance(prompt, TaskPrompt):
                return self._task(prompt, request.sampling.max_tokens)
            ids, reader = self._chat(prompt) if isinstance(prompt, ChatPrompt) else self._text(prompt)
        except RequestError as error:
            raise RequestRejected(error.code, str(error), PARAM_OF.get(error.code, "fields")) from error
        except ConfigError as error:
            raise RequestRejected("invalid_messages", error.what, "messages") from error
        return Rendered(ids, reader, self._limit(len(ids), request.sampling.max_tokens))

    def _task(self, prompt: TaskPrompt, max_tokens: int | None) -> Rendered:
        if self.families is None:
            what = "the version has no task templates: use /v1/chat/completions"
            raise RequestRejected("unknown_family", what, "family")
        answer_tokens = 0 if self.labels else max_tokens or self.max_new_tokens
        made = self.families.of(
            prompt.family, prompt.fields, prompt.template, answer_tokens=answer_tokens, shortens=prompt.shortens
        )
        limit = len(made.ids) + answer_tokens
        return Rendered(made.ids, made.reader, limit, made.template, made.is_shortened, is_task=True)

    def _chat(self, prompt: ChatPrompt) -> tuple[list[int], AnswerReader]:
        if self.prompts is None:
            what = "the version has a head and generates no text: use /v1/predict"
            raise RequestRejected("not_generative", what, "model")
        messages = [_with_objects(message) for message in prompt.messages]
        made = self.prompts.chat_prompt(messages, [dict(tool) for tool in prompt.tools])
        may_call = bool(prompt.tools) or any(message.get("tool_calls") for message in messages)
        return made.ids, AnswerReader("free", opens_thought=opens_thought(made.text), may_call=may_call)

    def _text(self, prompt: TextPrompt) -> tuple[list[int], AnswerReader]:
        if self.prompts is None:
            ((ids, _),) = text_ids(self.tokenizer, [prompt.text.strip()], 1 << 30)
        else:
            ids = self.prompts.of_text(prompt.text)
        if not ids:
            raise RequestRejected("empty_prompt", "the prompt has no tokens", "prompt")
        return ids, AnswerReader("free")

    def _limit(self, tokens: int, max_tokens: int | None) -> int:
        needed = tokens if self.labels else tokens + 1
        if self.context is not None and needed > self.context:
            what = f"the prompt has {tokens:,} tokens, the model's context {self.context:,}"
            raise RequestRejected("prompt_too_long", what, "messages" if self.labels is None else "prompt")
        limit = self.context if max_tokens is None else tokens + max_tokens
        return min(limit or 1 << 30, self.context or 1 << 30)


def _require_unicode(prompt: Any) -> None:
    """Raises RequestRejected for half of a surrogate pair, which no tokenizer accepts."""
    try:
        json.dumps(vars(prompt), ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise RequestRejected("invalid_text", "the prompt has half of a surrogate pair", "messages") from error


def _with_objects(message: Message) -> dict[str, Any]:
    """A message whose calls have their arguments as objects, as chat templates get them."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [_with_object(call) for call in calls]} if calls else dict(message)


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", {})
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            what = f"the arguments of the call of `{function.get('name')}` are not JSON"
            raise RequestRejected("invalid_messages", what, "messages") from error
    return {**call, "function": {**function, "arguments": arguments}}
