"""A prompt that a version was trained on is the prompt that is evaluated and the prompt in use, token by token."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from support.project import REPOSITORY
from support.tiny_models import make_tiny_tokenizer
from support.toychat import CALLING, OPEN_THOUGHT, QWEN3, TEMPLATES, chat_tokenizer, spaced

from tasks.base.generation import answer_reader
from tasks.base.heads import begin_ids
from tasks.prompts.chat_prompts import Prompts
from tasks.prompts.family_prompts import FamilyPrompts
from tasks.prompts.templates.conversation import make_conversation, request_of
from tasks.prompts.templates.templates import read_templates
from tasks.prompts.tokens.tokens import Example
from tasks.records.languages import row_language
from tasks.records.shapes import to_fields
from tasks.render.forms.answers import test_row as row_of_test
from tasks.render.forms.forms import Material
from tasks.render.forms.labels import labelled_rows
from tasks.render.forms.pairs import pairs
from tasks.render.forms.texts import _encoder as text_encoder
from tasks.render.settings import RenderSettings
from tasks.runtime.files import canonical_json

FAMILIES = read_templates(REPOSITORY / "data/templates")
NAMED = {path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "data/templates/chat").glob("*.jinja")}
NO_SYSTEM = NAMED["gemma"]
ONE_CALL = CALLING["json"].replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
"""It writes only one of two calls."""
NO_WORDS = CALLING["json"].replace("{{ m.content }}", "{{ '' if m.tool_calls else m.content }}")
"""It omits text before a call."""
CHATS = TEMPLATES | NAMED | {f"calls {name}": text for name, text in CALLING.items()}
CHATS |= {"one call": ONE_CALL, "no words": NO_WORDS}

OUTPUTS = {
    "entities": '[{"type":"PER","text":"Ann","start":7,"end":10}]',
    "relation": '[{"head":"Ann","relation":"lives in","tail":"巴黎"}]',
    "json": '{"name":"Ann","city":"巴黎"}',
}
QUESTIONS = {"en": ("Who?", "We met Ann. <|im_end|>"), "zh": ("谁？", "我们见到了安。</s>")}
ANSWERS = {"en": "City 7.", "zh": "它叫城市7。"}


def calls(*cities: str) -> str:
    return canonical_json([{"arguments": {"city": city, "days": 2}, "name": "weather"} for city in cities])


TOOLS = canonical_json([{"name": "weather", "description": "Tells the weather", "parameters": {"type": "object"}}])
TURNS = [["user", "Hello 你好"], ["assistant", "Hi!\n\nHow are you?"], ["user", "好"], ["assistant", "很好。"]]
CALLED = [["user", "What is the weather?"], ["assistant", "I look."], ["tool_call", calls("巴黎")]]
RESULT = ["tool", '{"sun":true}']


def row(**fields: str) -> dict[str, Any]:
    start = {"row_id": "0" * 32, "batch": "b", "source": "s", "use": "train", "family": "qa", "language": "en"}
    more = {"system": "", "history": "[]", "tools": "", "thoughts": "", "untrained": "", "tests": "", "rejected": ""}
    return {**start, **more, "instruction": "Who?", "input": "We met Ann.", "output": "Ann did.", **fields}


def rows_of(family: str, language: str) -> list[dict[str, Any]]:
    """A plain row, a dialogue, results of tools, and calls as answers: one or two, with and without text before them."""
    instruction, text = QUESTIONS[language]
    output = OUTPUTS.get(family, ANSWERS[language])
    start = {"family": family, "language": language, "output": output, "instruction": instruction, "input": text}
    called, turns = canonical_json([*CALLED, RESULT, ["assistant", "It is sunny."]]), canonical_json(TURNS)
    waiting, answered = canonical_json(CALLED), canonical_json([*CALLED, RESULT])
    tools = {**start, "tools": TOOLS, "instruction": ""}
    result = {**tools, "history": waiting, "input": '{"sun":false}'}
    two = calls("Rome", "Oslo")
    return [
        row(**start),
        row(**start, system="You are kind. 请用中文。", history=turns),
        row(**{**start, "language": "mixed"}, history=turns),
        row(**start, history=turns, thoughts=canonical_json([[-3, "They greet."]])),
        row(**tools, history=called),
        row(**{**tools, "output": calls("巴黎")}),
        row(**{**tools, "output": two}, history=called, system="Be kind."),
        row(**result),
        row(**{**result, "output": two}),
        row(**{**result, "output": two, "history": canonical_json([["user", "天气？"]]), "input": "Let me look."}),
        row(**{**result, "output": calls("巴黎"), "history": answered, "input": "And there?"}),
        row(**{**result, "history": canonical_json([["user", "天气？"], ["tool_call", two], RESULT])}),
    ]  # fmt: skip


def material_of(tokenizer: Any) -> Material:
    return Material(tokenizer, FAMILIES, RenderSettings(max_length_tokens=4096, pack_length_tokens=4096), Counter())


def in_use(material: Material, form: str = "answers", **more: Any) -> FamilyPrompts:
    """The prompts of a version, by the templates.json that would be stored with it."""
    families = {name: templates.as_dict() for name, templates in material.families.items()}
    document = json.loads(json.dumps({"form": form, "families": families, **material.as_dict(), **more}))
    return FamilyPrompts(material.tokenizer, document)


def require_equal(material: Material, families: list[str], per_family: int | None = None) -> int:
    """Requires of each row of each template: trained prompt = evaluated prompt = prompt in use. Returns the number of rows."""
    prompts, decode, count = in_use(material), answer_reader(material.tokenizer), 0
    for family in families:
        for template in material.families[family].templates[-(per_family or 99) :]:
            for subject in rows_of(family, template.language):
                examples = material.renderer.render([subject], lambda _, t=template: t, all_turns=False)  # type: ignore[misc]
                (example,) = examples
                assert isinstance(example, Example), (template.id, example)
                if family in ("dialogue", "tools"):  # every turn is trained
                    whole = material.renderer.render([subject], lambda _, t=template: t, all_turns=True)[-1]  # type: ignore[misc]
                    assert isinstance(whole, Example)
                    assert whole.prompt_ids == example.prompt_ids
                evaluated = row_of_test(example, material.families, decode)
                used = prompts.of(family, request_of(subject), template=evaluated["template"])
                assert used.ids == evaluated["prompt_ids"] == example.prompt_ids, (template.id, subject)
                assert (used.text, used.template) == (evaluated["prompt"], template.id)
                frame = (used.reader.frame.before, used.reader.frame.after)
                assert (*frame, used.reader.opens_thought) == tuple(
                    evaluated[name] for name in ("before", "after", "opens_thought")
                )
                count += 1
    return count


@pytest.mark.parametrize("name", CHATS)
def test_the_prompt_in_use_is_the_trained_and_the_evaluated_one(name: str) -> None:
    tokenizer = chat_tokenizer(CHATS[name], begins=name in ("zephyr", "llama2", "trimming"))
    families = list(FAMILIES) if name in ("chatml", "qwen3", "gemma") else ["dialogue", "tools"]
    assert require_equal(material_of(tokenizer), families, None if name == "chatml" else 1) >= 24


@pytest.mark.parametrize("kind", ["unigram", "bpe", "llama 2"])
def test_so_it_is_where_the_tokenizer_sets_a_space_before_a_text(kind: str) -> None:
    tokenizer = spaced(kind)
    tokenizer.chat_template = NAMED["llama2"]
    assert require_equal(material_of(tokenizer), ["topic", "tools"], 1) == 24


TAGGED = {"output": "<think>Six sevens.</think>42"}
FIELD = {"output": "42", "thoughts": canonical_json([[-1, "Six sevens."]])}


@pytest.mark.parametrize(
    ("chat_template", "answer", "is_thinking"),
    [(QWEN3, TAGGED, True), (QWEN3, FIELD, True), (OPEN_THOUGHT, FIELD, True), (OPEN_THOUGHT, TAGGED, False)],
)
def test_a_version_whose_answers_think_has_prompts_that_end_where_a_thought_begins(
    chat_template: str, answer: dict[str, str], is_thinking: bool
) -> None:
    """Also by request; the template that opens a thought writes an empty one before tags in the text of an answer."""
    material, subject = material_of(chat_tokenizer(chat_template)), row(**answer)
    (example,) = material.render([subject], all_turns=False)
    prompts, request, template = in_use(material), request_of(subject), example.template.id
    assert material.as_dict()["thinking"] == is_thinking
    assert prompts.of("qa", request, template).ids == example.prompt_ids
    assert prompts.of("qa", request, template, thinks=is_thinking).ids == example.prompt_ids
    (bare,) = material.render([row(output="42")], all_turns=False)
    assert prompts.of("qa", request, template, thinks=False).ids == bare.prompt_ids
    assert (bare.prompt_ids != example.prompt_ids) == is_thinking


def test_the_text_of_a_classifier_is_that_of_training_and_evaluation() -> None:
    material = material_of(make_tiny_tokenizer())
    rows = [
        row(family="topic", instruction="", input=" The match <|endoftext|> ended. ", output="sport"),
        row(family="topic", instruction="What is it?", input="进球了", output="体育", history=canonical_json(TURNS)),
    ]
    for subject, labelled in zip(rows, labelled_rows(rows, material), strict=True):
        used = in_use(material, form="labels").of("topic", request_of(subject))
        assert (used.ids, used.text, used.template) == (labelled.ids, labelled.text, "")


def test_the_tokens_of_a_reward_model_are_those_of_training_and_evaluation() -> None:
    material = material_of(chat_tokenizer(NAMED["gemma"]))
    subject = row(system="Be kind.", rejected="No idea.")
    ((example, pair),) = pairs([subject], material)
    prompts = in_use(material, form="ranked")
    for name, answer in (("chosen_ids", subject["output"]), ("rejected_ids", subject["rejected"])):
        used = prompts.of("qa", request_of(subject) | {"output": answer}, example.template.id)
        assert used.ids == pair["prompt_ids"] + pair[name]


@pytest.mark.parametrize("begins", [False, True])
def test_a_text_is_continued_as_texts_were_trained(begins: bool) -> None:
    material = material_of(chat_tokenizer(QWEN3, begins))
    for text in ("On day 7 there was rain. <|im_end|> ", "第7天，天气很好。"):
        ((_, ids),) = text_encoder(material.tokenizer)([row(family="text", output=text)])
        trained = [*begin_ids(material.tokenizer), *ids.tolist()]
        assert in_use(material, form="texts").of("text", {"text": text}).ids == trained[:-1]


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_has_the_prompt_of_a_dialogue_that_was_trained(name: str) -> None:
    """A chat template without system turns or tools gets both as text, as in training."""
    tokenizer = chat_tokenizer(CHATS[name])
    material, plain = material_of(tokenizer), FAMILIES["dialogue"].templates[0]
    for subject in rows_of("dialogue", "en"):
        subject |= {"instruction": "", "thoughts": ""}
        subject["language"] = row_language(subject)
        (example,) = material.renderer.render([subject], lambda _: plain, all_turns=False)
        assert isinstance(example, Example)
        written = make_conversation(plain, subject)
        context = written.messages[:-1]
        assert Prompts(tokenizer).of_chat(context, written.tools) == example.prompt_ids, subject


def test_messages_are_read_as_a_source_of_dialogues_is() -> None:
    material = material_of(chat_tokenizer(QWEN3))
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"days": 2.0, "city": "巴黎"}'},
    }
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "天气怎么样？"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "It needs the tool."},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
    ]  # fmt: skip
    record = {"messages": [*turns, {"role": "assistant", "content": "晴天。"}], "tools": json.loads(TOOLS)}
    fields = to_fields(record, "messages", {})
    assert isinstance(fields, dict)
    (example,) = material.render([row(**{**fields, "language": "zh", "family": "tools"})], all_turns=False)
    request = {"messages": turns, "tools": record["tools"]}
    used = in_use(material).of("tools", request, example.template.id)
    assert used.ids == example.prompt_ids
    assert "It needs the tool." in used.text
    assert used.reader.may_call
