"""Answers that are not trained, thoughts, and numbers as written, as a chat template renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY
from support.toychat import trained_spans

from tasks.base.load import load_tokenizer
from tasks.prompts.templates.templates import read_templates
from tasks.prompts.tokens.tokens import Example, Renderer
from tasks.render.forms.forms import Material
from tasks.render.forms.pairs import pairs
from tasks.render.settings import RenderSettings

FAMILIES = read_templates(REPOSITORY / "data/templates")
THINKING = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
DIALOGUE = {
    "history": '[["user","a"],["assistant","one"],["user","b"],["assistant","two"]]',
    "input": "c",
    "output": "three",
}


@pytest.fixture
def tokenizer(tiny_gpt2: Path, project: Path) -> Any:
    loaded = load_tokenizer(tiny_gpt2, "chatml")
    loaded.chat_template = THINKING
    return loaded


def row(**fields: str) -> dict[str, Any]:
    start = {"row_id": "0" * 32, "batch": "b", "family": "dialogue", "language": "en", "system": "", "history": "[]"}
    return {
        **start,
        "tools": "",
        "instruction": "",
        "input": "a",
        "output": "b",
        "untrained": "",
        "thoughts": "",
        **fields,
    }


def examples(tokenizer: Any, *rows: dict[str, Any], uses_caches: bool = True) -> list[Example]:
    renderer = Renderer(tokenizer, 500, all_turns=True, uses_caches=uses_caches)
    result = renderer.render(list(rows), lambda row: FAMILIES[row["family"]].templates[0])
    assert all(isinstance(each, Example) for each in result)
    return [each for each in result if isinstance(each, Example)]


def trained(tokenizer: Any, example: Example) -> list[str]:
    return [tokenizer.decode(span).replace(tokenizer.eos_token, "") for span in trained_spans(example)]


@pytest.mark.parametrize("uses_caches", [True, False])
@pytest.mark.parametrize(
    ("untrained", "texts"), [("", ["one", "two", "three"]), ("[-5]", ["two", "three"]), ("[-5,-3]", ["three"])]
)
def test_case_02_an_untrained_answer_is_in_the_context_and_not_in_the_mask(
    tokenizer: Any, untrained: str, texts: list[str], uses_caches: bool
) -> None:
    (example,) = examples(tokenizer, row(**DIALOGUE, untrained=untrained), uses_caches=uses_caches)
    assert trained(tokenizer, example) == texts
    assert "one" in example.prompt
    assert "two" in example.prompt


def test_case_02_flags_hold_though_old_turns_are_dropped(tokenizer: Any) -> None:
    long = '[["user","a"],["assistant","' + "one " * 200 + '"],["user","b"],["assistant","two"]]'
    renderer = Renderer(tokenizer, 120, all_turns=True)
    dialogue = row(**DIALOGUE | {"history": long}, untrained="[-3]")
    (example,) = renderer.render([dialogue], lambda row: FAMILIES["dialogue"].templates[0])
    assert isinstance(example, Example)
    assert trained(tokenizer, example) == ["three"]
    assert "two" in example.prompt


def test_case_03_a_thought_is_trained_as_the_chat_template_writes_it(tokenizer: Any) -> None:
    rows = [row(thoughts='[[-1,"6*7"]]'), row(**DIALOGUE, thoughts='[[-3,"why"],[-1,"so"]]'), row()]
    first, second, third = examples(tokenizer, *rows)
    assert trained(tokenizer, first) == ["<think>6*7</think>b"]
    assert trained(tokenizer, second) == ["one", "<think>why</think>two", "<think>so</think>three"]
    assert trained(tokenizer, third) == ["b"]
    assert first.conversation.target == "b"


def test_each_answer_of_a_pair_has_its_own_thought(tokenizer: Any) -> None:
    from collections import Counter

    material = Material(tokenizer, FAMILIES, RenderSettings(max_length_tokens=300, pack_length_tokens=300), Counter())
    pair = row(rejected="c", thoughts='[[-1,"good"],[0,"bad"]]')
    ((_, result),) = pairs([pair], material)
    assert "<think>good</think>b" in tokenizer.decode(result["chosen_ids"])
    assert "<think>bad</think>c" in tokenizer.decode(result["rejected_ids"])


def test_case_11_numbers_and_keys_of_a_call_are_trained_as_written(tokenizer: Any) -> None:
    called = row(family="tools", output='[{"arguments":{"to":1e3,"from":[-0,1.50]},"name":"book"}]')
    (example,) = examples(tokenizer, called)
    assert trained(tokenizer, example) == ['book({"to": 1e3, "from": [-0, 1.50]})']
