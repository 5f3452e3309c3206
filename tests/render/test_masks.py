"""The trained prompt is the served one: every instruction template in every chat template, token by token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.project import REPOSITORY
from support.toychat import spaced, trained_spans

from tasks.base.load import load_tokenizer
from tasks.errors import ConfigError
from tasks.prompts.templates.chat_template import ChatFormat
from tasks.prompts.templates.conversation import make_conversation
from tasks.prompts.templates.fill_template import write_answer, write_question
from tasks.prompts.templates.templates import read_templates
from tasks.prompts.tokens.tokens import Example, Renderer
from tasks.runtime.files import canonical_json
from tasks.scoring.targets import Frame, parse_answer

FAMILIES = read_templates(REPOSITORY / "data/templates")
TEMPLATES = [(family, template) for family, entry in FAMILIES.items() for template in entry.templates]
TWO_A_FAMILY = [
    (family, template) for family, entry in FAMILIES.items() for template in (entry.templates[0], entry.templates[-1])
]
NAMED = sorted(path.stem for path in (REPOSITORY / "data/templates/chat").glob("*.jinja"))
OUTPUTS = {
    "entities": '[{"type":"PER","text":"Ann","start":7,"end":10},{"type":"LOC","text":"巴黎","start":0,"end":2}]',
    "relation": '[{"head":"Ann","relation":"lives in","tail":"巴黎"}]',
    "json": '{"name":"Ann","city":"巴黎"}',
}
ANSWERS = {"en": "City 7.", "zh": "它叫城市7。"}
CALL = canonical_json([{"name": "weather", "arguments": {"city": "巴黎", "days": 2}}])
TOOLS = canonical_json([{"name": "weather", "description": "Tells the weather", "parameters": {"type": "object"}}])
TURNS = [["user", "Hello 你好"], ["assistant", "Hi!\n\nHow are you?"], ["user", "好"], ["assistant", "很好。"]]
CALLED = [["user", "What is the weather?"], ["assistant", "I look."], ["tool_call", CALL], ["tool", '{"sun":true}']]


def row(**fields: str) -> dict[str, Any]:
    start = {"row_id": "0" * 32, "family": "qa", "language": "en", "system": "", "history": "[]", "tools": ""}
    return {**start, "instruction": "Who?", "input": "We met Ann.", "output": "Ann did.", **fields}


def rows_of(family: str, language: str) -> list[dict[str, Any]]:
    """A plain row, a dialogue with a system turn, one that calls tools, and one that ends in a call."""
    output = OUTPUTS.get(family, ANSWERS[language])
    start = {"family": family, "language": language, "output": output}
    called = canonical_json([*CALLED, ["assistant", "It is sunny."]])
    return [
        row(**start),
        row(**start, system="You are kind. 请用中文。", history=canonical_json(TURNS)),
        row(**start, history=called, tools=TOOLS),
        row(**start | {"output": CALL}, history=called, tools=TOOLS),
        row(**start, history=canonical_json(CALLED[:-1]), tools=TOOLS, input='{"sun":false}'),
    ]


@pytest.fixture(params=NAMED)
def tokenizer(request: Any, tiny_gpt2: Path, project: Path) -> Any:
    return load_tokenizer(tiny_gpt2, request.param)


@pytest.fixture(scope="module", params=["unigram", "bpe", "llama 2"])
def spacing(request: Any) -> Any:
    return spaced(request.param)


def served(renderer: Renderer, subject: dict[str, Any], template: Any) -> list[tuple[list[int], list[int], str]]:
    """Of each of the assistant's turns: the prompt that is served, the tokens of this and the answer, and what it said."""
    conversation = renderer.chat.adapt(make_conversation(template, subject))
    result = []
    for place, message in enumerate(conversation.messages):
        if message["role"] == "assistant":
            prompt = renderer.tokenizer.apply_chat_template(
                conversation.messages[:place],
                tools=list(conversation.tools) or None,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
            output = [
                json.dumps(call["function"]["arguments"], ensure_ascii=False) for call in message.get("tool_calls", [])
            ]
            text = renderer.chat.text(conversation, conversation.messages[: place + 1]).rstrip()
            whole = renderer.tokenizer(text, add_special_tokens=False)["input_ids"]
            result.append((prompt, whole, message["content"] or output[0]))
    return result


@pytest.mark.parametrize("all_turns", [True, False])
def test_the_mask_covers_the_answers_and_the_tokens_before_each_are_the_served_prompt(
    tokenizer: Any, all_turns: bool
) -> None:
    require_what_is_served(Renderer(tokenizer, 4096, all_turns=all_turns), TEMPLATES, in_one=True)


@pytest.mark.parametrize("name", NAMED)
def test_so_it_does_where_the_tokenizer_sets_a_space_before_a_text(spacing: Any, name: str) -> None:
    spacing.chat_template = (REPOSITORY / f"data/templates/chat/{name}.jinja").read_text(encoding="utf-8")
    renderer = Renderer(spacing, 8192, all_turns=True)
    assert not renderer._encoder.is_additive
    require_what_is_served(renderer, TWO_A_FAMILY)


def require_what_is_served(renderer: Renderer, templates: list[Any], in_one: bool = False) -> None:
    """Of every row of every template: the trained tokens are its answers, and before each stands the prompt that is served.

    Args:
        in_one: a row is one example, whatever it says; else it may be one an answer.
    """
    tokenizer = renderer.tokenizer
    for family, template in templates:
        for subject in rows_of(family, template.language):
            examples = renderer.render([subject], lambda _, t=template: t)  # type: ignore[misc]
            assert len(examples) == 1 or not in_one
            prompts = served(renderer, subject, template)
            trained = [result for example in examples for result in trained_of(example)]
            assert len(trained) == (len(prompts) if renderer.all_turns else 1)
            for (prompt, whole, output), (before, span) in zip(prompts[-len(trained) :], trained, strict=True):
                assert before == prompt, (template.id, "the prompt that is served")
                if (
                    whole[: len(before)] == before
                ):  # else a token would stand for the prompt's end and the answer's beginning
                    assert before + span == whole, (template.id, "what the whole text's tokens are")
                text = tokenizer.decode(span)
                assert text.endswith(tokenizer.eos_token), (template.id, text)
                bare = text.removesuffix(tokenizer.eos_token).strip()
                if "tool_call" in bare or '"arguments"' in bare:
                    assert (
                        output in bare
                        or json.loads(output) == parse_answer("tool_calls", bare[bare.find("[") :])[0]["arguments"]
                    )
                else:
                    assert bare == output.strip()


def trained_of(example: Any) -> list[tuple[list[int], list[int]]]:
    """What an example trains, answer by answer: the tokens before it, and its own."""
    assert isinstance(example, Example)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], example.mask, [0]]).astype(np.int8))).reshape(-1, 2)
    return [(example.ids[:first].tolist(), example.ids[first:last].tolist()) for first, last in edges]


def test_what_a_template_writes_is_read_back_as_the_target(tokenizer: Any) -> None:
    """In every chat template: the trained answer, read as a model's answer would be, is the row's target."""
    renderer = Renderer(tokenizer, 4096)
    for family, template in TEMPLATES:
        for subject in rows_of(family, template.language):
            (example,) = renderer.render([subject], lambda _, t=template: t)  # type: ignore[misc]
            assert isinstance(example, Example)
            kind = FAMILIES[family].kind
            if example.conversation.ends_in_call:
                kind = "tool_calls"
            elif kind == "tool_calls":
                kind = "free"
            answer = tokenizer.decode(example.answer_ids, skip_special_tokens=True)
            read = parse_answer(kind, answer, template.frame)
            assert read is not None
            assert read == parse_answer(kind, example.conversation.target), (template.id, answer)
            if template.source[1] == "{{ output }}" or template.frame != Frame():
                assert read == parse_answer(kind, subject["output"])


def test_a_system_turn_is_never_lost(tokenizer: Any) -> None:
    subject = row(system="Answer in rhymes.", history=canonical_json(TURNS))
    (example,) = Renderer(tokenizer, 4096).render([subject], FAMILIES["qa"].choose)
    assert isinstance(example, Example)
    assert example.prompt.count("Answer in rhymes.") == 1


def test_a_template_sets_a_system_turn_before_a_row_that_has_none_and_no_other(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, 4096)
    for template in FAMILIES["dialogue"].templates:
        for own in ("", "Answer in rhymes."):
            for more in ({}, {"history": canonical_json(CALLED[:-1]), "tools": TOOLS, "input": '{"sun":false}'}):
                subject = row(family="dialogue", language=template.language, system=own, **more)
                (example,) = renderer.render([subject], lambda _, t=template: t)  # type: ignore[misc]
                assert isinstance(example, Example)
                assert example.prompt.count("Answer in rhymes.") == bool(own)
                if template.system and template.system not in tokenizer.chat_template:
                    assert example.prompt.count(template.system) == (not own)
                assert sum(m["role"] == "system" for m in example.conversation.messages) <= 1


def test_tools_are_written_by_the_chat_template_or_else_as_json(tokenizer: Any) -> None:
    subject = rows_of("tools", "en")[3]
    renderer = Renderer(tokenizer, 4096)
    (example,) = renderer.render([subject], FAMILIES["tools"].choose)
    assert isinstance(example, Example)
    assert renderer.chat.has_tools == ("<tools>" in tokenizer.chat_template)
    assert "Tells the weather" in example.prompt
    assert ("<tool_response>" in example.prompt) == renderer.chat.has_tools
    assert ("You may call these tools." in example.prompt) != renderer.chat.has_tools
    answer = tokenizer.decode(example.answer_ids, skip_special_tokens=True)
    assert parse_answer("tool_calls", answer) == [{"name": "weather", "arguments": {"city": "巴黎", "days": 2}}]


def test_a_template_that_rewrites_earlier_turns_makes_an_example_an_answer(tiny_gpt2: Path, project: Path) -> None:
    """As templates of reasoning models do, which take what was thought out of all turns but the last."""
    tokenizer = load_tokenizer(tiny_gpt2)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content if loop.last or m.role == 'user' else m.content.split('</think>')[-1] }}"
        "{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    turns = [["user", "one?"], ["assistant", "<think>hm</think>One."]]
    subject = row(history=canonical_json(turns), output="<think>so</think>Two.")
    examples = Renderer(tokenizer, 512, all_turns=True).render([subject], FAMILIES["dialogue"].choose)
    answers = [tokenizer.decode(trained_spans(e)[0]) for e in examples if isinstance(e, Example)]
    assert answers == ["<think>hm</think>One.<|endoftext|>", "<think>so</think>Two.<|endoftext|>"]
    assert isinstance(examples[1], Example)
    assert "[assistant]One.<|endoftext|>[user]" in examples[1].prompt


def test_an_empty_turn_among_others_is_not_trained(tiny_gpt2: Path, project: Path) -> None:
    tokenizer = load_tokenizer(tiny_gpt2, "alpaca")
    turns = [["user", "one?"], ["assistant", ""], ["user", "一？"], ["assistant", "One."]]
    subject = row(history=canonical_json(turns), output="它叫城市7。")
    (example,) = Renderer(tokenizer, 512, all_turns=True).render([subject], FAMILIES["dialogue"].choose)
    assert tokenizer.decode(example.ids[example.mask == 1]) == "One.<|endoftext|>它叫城市7。<|endoftext|>"


def test_a_chat_template_that_writes_one_call_of_two_is_given_both_as_text(tiny_gpt2: Path, project: Path) -> None:
    tokenizer = load_tokenizer(tiny_gpt2)
    calls = canonical_json([{"name": "weather", "arguments": {"city": city}} for city in ("Rome", "Oslo")])
    subject = row(tools=TOOLS, output=calls)
    with_all_calls = (
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    for chat_template, is_text in (
        (with_all_calls, False),
        (with_all_calls.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), True),
    ):
        tokenizer.chat_template = chat_template
        conversation = make_conversation(FAMILIES["qa"].choose(subject), subject)
        assert ("tool_calls" not in ChatFormat(tokenizer).adapt(conversation).messages[-1]) == is_text


def test_a_chat_template_that_changes_the_prompt_once_it_is_answered_is_refused(tiny_gpt2: Path, project: Path) -> None:
    tokenizer = load_tokenizer(tiny_gpt2)
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(ConfigError, match="the trained prompt would not be the served one"):
        Renderer(tokenizer, 512).render([row()], FAMILIES["qa"].choose)


def test_a_prompt_whose_white_space_the_answered_text_lacks_is_refused_and_no_row_lost(
    tiny_gpt2: Path, project: Path
) -> None:
    tokenizer = load_tokenizer(tiny_gpt2)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ '<think></think>' if m.role == 'assistant' else '' }}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]<think></think>\n{% endif %}"
    )
    with pytest.raises(ConfigError, match="the trained prompt would not be the served one"):
        Renderer(tokenizer, 512).render([row()], FAMILIES["qa"].choose)


def test_where_a_chat_template_writes_no_end_the_end_of_the_answer_is_trained(tiny_gpt2: Path, project: Path) -> None:
    tokenizer = load_tokenizer(tiny_gpt2, "alpaca")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    (example,) = Renderer(tokenizer, 512).render([row(output="它叫城市7。")], FAMILIES["qa"].choose)
    assert tokenizer.decode(example.ids[example.mask == 1]) == "它叫城市7。" + tokenizer.eos_token


def test_a_missing_chat_template_is_reported_with_the_existing_ones(tiny_gpt2: Path, project: Path) -> None:
    Path("data/templates/chat/mine.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert load_tokenizer(tiny_gpt2, "mine").chat_template.startswith("{% for")
    with pytest.raises(ConfigError, match=r"no chat template has the name my; available: own, alpaca, .*mine.*zephyr"):
        load_tokenizer(tiny_gpt2, "my")


def test_the_user_turn_may_not_name_the_answer(project: Path) -> None:
    text = 'kind: qa\ntemplates: [{id: qa-1, language: en, user: "{{ input }} {{ output }}"}]\n'
    Path("data/templates/qa.yaml").write_text(text)
    with pytest.raises(ConfigError, match="`user` names output, which is unknown when the model is served"):
        read_templates()


def test_every_family_has_several_templates_in_english_and_in_chinese() -> None:
    for family, entry in FAMILIES.items():
        languages = [t.language for t in entry.templates]
        fewest = 1 if family == "text" else 3  # raw text is asked for by nothing
        assert min(languages.count("en"), languages.count("zh")) >= fewest, family
        assert len({t.id for t in entry.templates}) == len(entry.templates)


def test_relations_between_marked_parts_are_written_as_their_label() -> None:
    marked = row(
        family="relation", input="The <e1>fire</e1> came from the <e2>lamp</e2>.", output="Cause-Effect(e2,e1)"
    )
    for template in FAMILIES["relation"].templates:
        user, answer = write_question(template, marked), write_answer(template, marked)
        assert "e1" in user.replace("<e1>", "").replace("</e1>", "") or "标记" in user or "marked" in user
        assert answer == "Cause-Effect(e2,e1)"
        assert parse_answer("relation", answer) == {("e2", "cause-effect", "e1")}
