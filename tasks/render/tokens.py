"""Messages → token ids: the prompt, and the answer with its end token. What is trained is what is served.

The prompt is the model's own chat template up to where the assistant begins; the answer is what the template adds when
the assistant's turn is there too. Both are tokenised apart, as they are when the model is served.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.errors import ConfigError
from tasks.render.templates import InstructionTemplate, Message, render_messages


@dataclass(frozen=True)
class Example:
    """One row as tokens. Trained on: `answer_ids`."""

    row_id: str
    prompt: str
    prompt_ids: list[int]
    answer_ids: list[int]
    """The answer and its end token."""
    was_cut: bool = False

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


@dataclass(frozen=True)
class Dropped:
    row_id: str
    reason: str
    """`answer_too_long`, `prompt_too_long` or `empty_answer`."""


class Renderer:
    """Renders rows with one tokenizer. A row's result depends on that row alone."""

    def __init__(self, tokenizer: Any, max_length_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_length_tokens = max_length_tokens

    def render(
        self, rows: list[dict[str, Any]], choose: Callable[[Mapping[str, Any]], InstructionTemplate]
    ) -> list[Example | Dropped]:
        """Examples in the order of `rows`; the tokenizer is called on all of them at once."""
        texts = [self.texts(render_messages(choose(row), row)) for row in rows]
        prompts = self._encode([prompt for prompt, _ in texts])
        answers = self._encode([answer for _, answer in texts])
        results: list[Example | Dropped] = []
        for row, (prompt, _), prompt_ids, answer_ids in zip(rows, texts, prompts, answers, strict=True):
            answer_ids = self._ended(answer_ids)
            if len(answer_ids) < 2:
                results.append(Dropped(row["row_id"], "empty_answer"))
            elif len(answer_ids) >= self.max_length_tokens:
                results.append(Dropped(row["row_id"], "answer_too_long"))
            elif len(prompt_ids) + len(answer_ids) <= self.max_length_tokens:
                results.append(Example(row["row_id"], prompt, prompt_ids, answer_ids))
            else:
                results.append(self._cut(row, choose(row), answer_ids, len(prompt_ids)))
        return results

    def texts(self, messages: list[Message]) -> tuple[str, str]:
        """The prompt, and the answer as the chat template writes it, up to its end token.

        Raises:
            ConfigError: the chat template changes the prompt when an answer follows it.
        """
        prompt = self.tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        whole = self.tokenizer.apply_chat_template(messages, tokenize=False)
        if not whole.startswith(prompt):
            raise ConfigError(
                "the model's chat template writes another prompt when an answer follows, so that what is trained would not "
                "be what is served",
                where="base.chat_template",
                fix="Set it to alpaca or chatml in params.yaml",
            )
        return prompt, whole[len(prompt) :].rstrip()

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def _ended(self, answer_ids: list[int]) -> list[int]:
        # the end token is trained, or replies never stop
        if answer_ids and answer_ids[-1] in self.tokenizer.all_special_ids:
            return answer_ids
        return [*answer_ids, self.tokenizer.eos_token_id]

    def _cut(
        self, row: dict[str, Any], template: InstructionTemplate, answer_ids: list[int], length: int
    ) -> Example | Dropped:
        """Cuts the end of the row's input (before it, the oldest turns) until prompt and answer fit."""
        room = self.max_length_tokens - len(answer_ids)
        history = json.loads(row["history"])
        while True:
            if history:
                history = history[2:] if len(history) > 1 else []
            else:
                encoded = self.tokenizer(row["input"], add_special_tokens=False, return_offsets_mapping=True)
                kept = len(encoded["input_ids"]) - max(1, length - room)
                if kept <= 0:
                    return Dropped(row["row_id"], "prompt_too_long")
                # where the first dropped token begins: a character may be several tokens, and goes as a whole
                end = min(encoded["offset_mapping"][kept][0], len(row["input"]) - 1)
                row = {**row, "input": row["input"][:end].rstrip()}
            row = {**row, "history": json.dumps(history, ensure_ascii=False)}
            prompt, _ = self.texts(render_messages(template, row))
            prompt_ids = self._encode([prompt])[0]
            length = len(prompt_ids)
            if length <= room:
                return Example(row["row_id"], prompt, prompt_ids, answer_ids, was_cut=True)
