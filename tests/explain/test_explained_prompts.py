"""The prompt that is explained is the evaluated one; without a part of the user's text, only that part is missing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY
from support.toy_rows import toy_rows

from flows.explain.answer import PromptWriter
from flows.explain.load import RegisteredModel
from flows.explain.material import TRUNCATED
from flows.explain.subject import Subject, of_prompt, texts_of, with_texts
from tasks.base.load import load_tokenizer
from tasks.errors import DataError
from tasks.prompts.chat_prompts import Prompts
from tasks.prompts.templates.templates import read_templates
from tasks.render.forms.forms import Material
from tasks.render.settings import RenderSettings
from tasks.runtime.threads import Threads

SETTINGS = RenderSettings(max_length_tokens=256)
DIALOGUE = [["user", "Hello there"], ["assistant", "Hi."], ["user", "你好"], ["assistant", "你好。"]]


@pytest.fixture
def registered(tiny_llama: Path) -> RegisteredModel:
    families = read_templates(REPOSITORY / "data/templates")
    tokenizer, threads = load_tokenizer(tiny_llama), Threads("explain", is_quiet=True)
    return RegisteredModel("v1", "d", "base", None, tokenizer, None, families, False, "fp32", threads)


def rows() -> list[dict[str, Any]]:
    """An English and a Chinese question, a control token in a text, a dialogue, and a text that is truncated."""
    english, chinese = toy_rows(topics=0, questions=2)
    more = {"thoughts": "", "tools": "", "untrained": "[]", "rejected": "", "desirable": "", "images": "[]"}
    long, typed = "word " * 300, "What is <|endoftext|>?"
    made = [english, chinese, {**english, "input": typed}, {**english, "input": long}]
    made.append({**chinese, "history": json.dumps(DIALOGUE, ensure_ascii=False), "instruction": "", "input": "再见"})
    return [{**row, **more} for row in made]


@pytest.mark.parametrize("number", range(5))
def test_the_prompt_is_the_one_of_evaluation(registered: RegisteredModel, number: int) -> None:
    row = rows()[number]
    (example,) = Material(registered.tokenizer, registered.families, SETTINGS, Counter()).render([row], all_turns=False)
    writer = PromptWriter(registered, Subject("r", row, texts_of(row)), SETTINGS)
    assert writer.write(writer.texts) == example.prompt_ids
    assert (TRUNCATED in writer.notes) == example.was_cut == (number == 3)


def test_only_the_removed_text_is_missing(registered: RegisteredModel) -> None:
    row = rows()[4]
    assert texts_of(row) == {"turn 1": "Hello there", "turn 2": "你好", "input": "再见"}
    writer = PromptWriter(registered, Subject("r", row, texts_of(row)), SETTINGS)
    whole, less = (
        registered.tokenizer.decode(writer.write(texts)) for texts in (writer.texts, writer.texts | {"turn 1": "there"})
    )
    assert whole.replace("Hello there", "there") == less
    assert with_texts(row, {}) == {**row, "history": json.dumps(DIALOGUE, ensure_ascii=False)}


def test_a_prompt_is_that_of_generate(registered: RegisteredModel) -> None:
    subject = of_prompt(" Where is it? 在哪里？\n")
    messages = [{"role": "user", "content": "Where is it? 在哪里？"}]
    assert PromptWriter(registered, subject, SETTINGS).write(subject.texts) == Prompts(registered.tokenizer).of_chat(
        messages
    )


def test_a_row_whose_answer_is_too_long_to_be_rendered_is_reported(registered: RegisteredModel) -> None:
    row = {**rows()[0], "output": "word " * 300}
    with pytest.raises(DataError, match="has no example for this model"):
        PromptWriter(registered, Subject("r", row, texts_of(row)), SETTINGS)
