"""Generated answers: in the order of the prompts, with a note of those that the token limit has cut off."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from support.tiny_models import make_tiny_tokenizer

from tasks.base.generation import Answer, generate_answers

LIMIT = 3


class Echo:
    """A model that answers with the last token of a prompt, as often as its number of tokens, and then with the end token."""

    device = torch.device("cpu")
    generation_config = SimpleNamespace(eos_token_id=0)

    def generate(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> torch.Tensor:
        answers = torch.zeros(len(input_ids), LIMIT, dtype=torch.long)
        for row, count in enumerate(attention_mask.sum(1).tolist()):
            answers[row, :count] = input_ids[row, -1]
        return torch.cat([input_ids, answers], dim=1)


def test_an_answer_is_cut_if_it_reaches_the_limit_without_an_end_token() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    (letter,) = tokenizer("x")["input_ids"]
    prompts = [[letter] * count for count in (2, 4, 1, 3)]
    answers = generate_answers(Echo(), tokenizer, prompts, max_new_tokens=LIMIT, batch_rows=3)
    assert answers == [Answer("xx", False), Answer("xxx", True), Answer("x", False), Answer("xxx", True)]
