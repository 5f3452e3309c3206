"""An OpenAI-compatible server as an engine: prompts are token ids, so that no server applies a template of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.base.generation import Answer, answer_reader
from tasks.errors import SourceError
from tasks.inference.connection import Completion, Connection
from tasks.inference.endpoint import FIRST_PAUSE_SECONDS, Endpoint
from tasks.inference.engine import OnAnswers, ignore_answers
from tasks.inference.settings import ServerSettings
from tasks.scoring.thoughts import THOUGHT_BEGINS, THOUGHT_ENDS

OWNER = "evaluate.engine"


@dataclass(frozen=True)
class Decoding:
    """What decides an answer, beside the weights."""

    ends: tuple[int, ...]
    """Tokens at which an answer ends."""
    repetition_penalty: float = 1.0

    def fields(self) -> dict[str, Any]:
        """Fields of a request, of vLLM and SGLang. `return_token_ids` is vLLM's; without it, answers are read from their text."""
        fields = {"stop_token_ids": list(self.ends), "skip_special_tokens": False, "return_token_ids": True}
        penalty = {} if self.repetition_penalty == 1.0 else {"repetition_penalty": self.repetition_penalty}
        return fields | penalty


class ServerEngine:
    """Generates with a model behind `base_url`.

    Args:
        model: the model's name there.
        positions: the context of the model, in tokens; None: no limit.
    """

    def __init__(
        self,
        settings: ServerSettings,
        base_url: str,
        model: str,
        tokenizer: Any,
        decoding: Decoding,
        positions: int | None = None,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self.settings, self.base_url, self.model, self.tokenizer = settings, base_url, model, tokenizer
        self.decoding, self.positions, self.first_pause_seconds = decoding, positions, first_pause_seconds
        self._read = answer_reader(tokenizer)
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = sorted(special - {THOUGHT_BEGINS, THOUGHT_ENDS}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_answers: OnAnswers = ignore_answers
    ) -> list[Answer]:
        """As Engine.generate; whether an answer depends on the others is up to the server.

        Raises:
            SourceError: the server refuses, fails for good, or answers what is no answer.
        """
        order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        endpoint = Endpoint(self._connection(max_new_tokens), self.first_pause_seconds)
        answers: dict[int, Answer] = {}

        def keep(number: int, completion: Completion) -> None:
            answers[order[number]] = self._answer(completion, max_new_tokens)
            on_answers({order[number]: answers[order[number]]})

        endpoint.complete([[*prompts[index]] for index in order], keep)
        return [answers[index] for index in range(len(prompts))]

    def _connection(self, max_new_tokens: int) -> Connection:
        settings = self.settings
        return Connection(
            self.base_url,
            self.model,
            OWNER,
            api="completions",
            api_key_env=settings.api_key_env,
            max_tokens=max_new_tokens,
            temperature=0.0,
            timeout_seconds=settings.timeout_seconds,
            attempts=settings.attempts,
            parallel_requests=settings.parallel_requests,
            extra=self.decoding.fields(),
        )

    def _answer(self, completion: Completion, max_new_tokens: int) -> Answer:
        tokens = completion.token_ids
        if tokens is None:
            return Answer(self._special.sub("", completion.text).strip(), completion.is_cut)
        if len(tokens) > max_new_tokens or not all(0 <= token < len(self.tokenizer) for token in tokens):
            what = f"{len(tokens)} tokens are no answer of this model of up to {max_new_tokens} tokens"
            raise SourceError(what, where=self.base_url, fix=f"Correct {OWNER}: another model is served, perhaps")
        return Answer(self._read(tokens), completion.is_cut and set(self.decoding.ends).isdisjoint(tokens))
