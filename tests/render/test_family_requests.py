"""Requests of a task family: their template, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from support.project import REPOSITORY
from support.toychat import CHATML, chat_tokenizer

from tasks.errors import one_line
from tasks.prompts.family_prompts import FamilyPrompts
from tasks.prompts.needed_fields import needed_fields
from tasks.prompts.request_fields import RequestError
from tasks.prompts.templates.templates import read_templates

FAMILIES = read_templates(REPOSITORY / "data/templates")
DOCUMENT = {"form": "answers", "max_length_tokens": 96, "families": {n: f.as_dict() for n, f in FAMILIES.items()}}
TEXTS = {"en": "The match ended two to one.", "zh": "比赛以二比一结束。"}


def prompts(context_tokens: int | None = 256, **document: Any) -> FamilyPrompts:
    return FamilyPrompts(chat_tokenizer(CHATML), DOCUMENT | document, context_tokens)


def refusal(family: str, fields: dict[str, Any], template: str | None = None, **more: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        prompts().of(family, fields, template, **more)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_fields_choose_the_template_and_the_answer_does_not(language: str) -> None:
    texts = [f"{TEXTS[language]} {number}" for number in range(40)]
    first, second = ([prompts().of("topic", {"text": text}).template for text in texts] for _ in range(2))
    assert first == second
    assert set(first) == {t.id for t in FAMILIES["topic"].templates if t.language == language}
    ranked = prompts(form="ranked")
    chosen = {ranked.of("topic", {"text": texts[0], "output": output}).template for output in ("sport", "体育", "tech")}
    assert chosen == {first[0]}


def test_a_template_may_be_named_and_decides_the_language_of_a_text_without_letters() -> None:
    used = prompts().of("topic", {"text": "2:1"}, "topic-zh-1")
    assert (used.template, "2:1" in used.text) == ("topic-zh-1", True)
    assert prompts().of("topic", {"text": "2:1"}).template.startswith("topic-en")
    assert prompts().of("topic", {"text": "2:1", "language": "zh"}).template.startswith("topic-zh")


def test_a_name_of_a_source_is_a_field_too() -> None:
    for given, own in (
        ({"text": "It rained."}, {"input": "It rained."}),
        ({"question": "谁？"}, {"instruction": "谁？"}),
    ):
        assert prompts().of("qa", given).ids == prompts().of("qa", own).ids


def test_what_is_unknown_or_missing_is_refused_with_what_is_known() -> None:
    error = refusal("topics", {"text": "x"})
    assert (error.code, "topics" in error.what, ", topic, " in str(error)) == ("unknown_family", True, True)
    error = refusal("topic", {"txt": "x"})
    assert (error.code, "txt" in error.what, "text, context, question" in str(error)) == ("unknown_field", True, True)
    error = refusal("topic", {"text": "x"}, "topic-fr-1")
    assert (error.code, "topic-en-1" in str(error)) == ("unknown_template", True)
    error = refusal("topic", {"question": "x"})
    assert (error.code, "input (text, context)" in error.what) == ("missing_field", True)
    error = refusal("qa", {"system": "x"})
    assert (error.code, "input (text, context) or instruction (question)" in error.what) == ("missing_field", True)
    error = refusal("topic", {})
    assert error.code == "missing_field"
    with pytest.raises(RequestError, match="a field is missing: output"):
        prompts(form="ranked").of("topic", {"text": "x"})


def test_a_template_needs_the_fields_without_a_default() -> None:
    needed = {family: {needed_fields(t.source[0]) for t in entry.templates} for family, entry in FAMILIES.items()}
    assert needed["topic"] == needed["summary"] == needed["entities"] == {frozenset({"input"})}
    assert needed["qa"] == needed["dialogue"] == {frozenset({"input", "instruction"})}


@pytest.mark.parametrize(
    "fields",
    [
        {"text": 7}, {"text": "x", "input": "y"}, {"text": "\ud800"}, {"text": "x", "history": "no JSON"},
        {"text": "x", "history": [["user"]]}, {"text": "x", "tools": "{}"}, {"text": "x", "tools": [["a", "b"]]},
        {"messages": []}, {"messages": [{"role": "assistant", "content": "Hi"}]}, {"messages": "Hi"},
        {"messages": [{"role": "user", "content": "Hi"}], "text": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_no_row_has_is_refused(fields: dict[str, Any]) -> None:
    assert refusal("dialogue", fields).code == "invalid_field"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_prompt_that_is_too_long_is_refused_with_its_length(language: str) -> None:
    text = {"text": TEXTS[language] * 40}
    tokens = len(prompts(None).of("topic", text).ids)
    error = refusal("topic", text, answer_tokens=16)
    assert error.code == "prompt_too_long"
    assert f"a prompt of {tokens:,} tokens and an answer of up to 16 exceed the context of 256 tokens" in one_line(
        error
    )
    fitting = prompts(tokens + 16).of("topic", text, answer_tokens=16)
    assert (len(fitting.ids), fitting.is_shortened) == (tokens, False), "longer than in training, but it fits"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_is_shortened_only_on_request_as_in_training(language: str) -> None:
    long, turn = TEXTS[language] * 40, TEXTS[language]
    used = prompts().of("topic", {"text": long}, shortens=True)
    assert (used.is_shortened, 48 < len(used.ids) <= 96) == (True, True)
    assert not prompts().of("topic", {"text": turn}, shortens=True).is_shortened
    history = [["user", "OLD " + turn], ["assistant", turn], ["user", turn], ["assistant", "NEAR"]]
    used = prompts().of("dialogue", {"history": history, "input": f"LAST {turn}"}, shortens=True)
    assert used.is_shortened
    assert ("OLD" in used.text, "LAST" in used.text) == (False, True)
    error = refusal("dialogue", {"history": [["user", long]]}, shortens=True)
    assert error.code == "prompt_too_long"
    label = prompts(form="labels").of("topic", {"text": long}, shortens=True)
    assert (label.is_shortened, len(label.ids)) == (True, 96)
    with pytest.raises(RequestError, match="exceeds the context of 256 tokens"):
        prompts(form="labels").of("topic", {"text": long})
