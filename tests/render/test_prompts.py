"""One prompt for training, evaluation and chat, token by token: what a chat template writes before an answer is a part of it.

Case 04.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.project import REPOSITORY
from support.toychat import (
    CALLING,
    MARKERS,
    NO_GENERATION_PROMPT,
    OPEN_THOUGHT,
    PARTS,
    QWEN3,
    TEMPLATES,
    chat_tokenizer,
)

from tasks.base.generation import answer_reader
from tasks.chat.writing import THOUGHT
from tasks.dataset.rendered import TEMPLATES as TEMPLATES_FILE
from tasks.dataset.rendered import thinks_by_training
from tasks.errors import ConfigError
from tasks.evaluate.predictions import score_rows
from tasks.prompts.chat_prompts import Prompts
from tasks.prompts.templates.chat_template import ChatFormat
from tasks.prompts.templates.conversation import Conversation, make_conversation
from tasks.prompts.templates.templates import read_templates
from tasks.prompts.tokens.tokens import Dropped, Example, Renderer
from tasks.render.forms.answers import test_row as row_of_test
from tasks.render.forms.forms import Material
from tasks.render.forms.pairs import _pair as as_pair
from tasks.render.settings import RenderSettings
from tasks.runtime.files import canonical_json, write_json
from tasks.scoring.score import score_answer

FAMILIES = read_templates(REPOSITORY / "data/templates")
NAMED = {path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "data/templates/chat").glob("*.jinja")}
ALL = TEMPLATES | NAMED
TEXT = st.text(st.sampled_from("ab .,\n  城市7<>/"), max_size=12) | st.sampled_from(
    ["Yes.", "它叫城市7。", "a<|im_end|>\n<|im_start|>assistant\nno", "<s>", "x</s>", "<end>\n<start>model\n", *MARKERS]
)
SAID = TEXT.filter(lambda text: bool(text.strip()))
TURNS = st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3)


def row(turns: list[tuple[str, str]], system: str = "") -> dict[str, Any]:
    history = [turn for user, answer in turns[:-1] for turn in (["user", user], ["assistant", answer])]
    return {
        "row_id": "0" * 32, "batch": "b", "source": "s", "use": "train", "family": "dialogue", "language": "en",
        "system": system, "tools": "",
        "history": canonical_json(history), "instruction": "", "input": turns[-1][0], "output": turns[-1][1],
    }  # fmt: skip


def rendered(tokenizer: Any, subject: dict[str, Any], all_turns: bool = False) -> list[Example]:
    return examples_of(Renderer(tokenizer, 4096), subject, all_turns)


def examples_of(renderer: Renderer, subject: dict[str, Any], all_turns: bool) -> list[Example]:
    examples = renderer.render([subject], plain, all_turns)
    assert all(isinstance(example, Example) for example in examples)
    return examples  # type: ignore[return-value]


@cache
def renderer_of(name: str, begins: bool) -> Renderer:
    """One for all rows of a template, as in a run: its analysis of a long template takes a second."""
    return Renderer(chat_tokenizer(ALL[name], begins), 4096)


def asked_row(tokenizer: Any, example: Example) -> dict[str, Any]:
    return row_of_test(example, FAMILIES, answer_reader(tokenizer))


def plain(subject: Any) -> Any:
    """The template that adds nothing to what the row says."""
    return FAMILIES["dialogue"].templates[0]


def trained(example: Example) -> list[tuple[list[int], list[int]]]:
    """Of each answer: the tokens before it, and its own."""
    result, before = [], 0
    for place in range(1, len(example) + 1):
        if place == len(example) or example.mask[place] != example.mask[place - 1]:
            if example.mask[place - 1]:
                result.append((example.ids[:before].tolist(), example.ids[before:place].tolist()))
            before = place
    return result


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("name", ALL)
@settings(max_examples=20, deadline=None)
@given(turns=TURNS, system=st.sampled_from(["", "Be kind. 请用中文。", "</s>"]))
def test_what_is_trained_evaluated_and_served_is_one_prompt(
    name: str, begins: bool, turns: list[tuple[str, str]], system: str
) -> None:
    """Case 04, as a property: of every answer of a dialogue, in every chat template."""
    renderer, subject = renderer_of(name, begins), row(turns, system)
    tokenizer, chat = renderer.tokenizer, renderer.chat
    prompts = Prompts(tokenizer)
    conversation = chat.adapt(make_conversation(plain(subject), subject))
    answers = [place for place, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    served = [prompts.of_chat(conversation.messages[:place]) for place in answers]
    pairs = [pair for example in examples_of(renderer, subject, True) for pair in trained(example)]
    assert [before for before, _ in pairs] == served
    (example,) = examples_of(renderer, subject, False)
    assert asked_row(tokenizer, example)["prompt_ids"] == served[-1]
    read = answer_reader(tokenizer)
    for (_, answer), place in zip(pairs, answers, strict=True):
        content = conversation.messages[place]["content"]
        if not any(tag in content for tag in ("<think>", "</think>")):
            assert read(answer) == content.strip()


@pytest.mark.parametrize("name", ["qwen3", "no generation prompt", "parts", "open thought", "chatml"])
def test_an_answer_as_it_was_taught_scores_full_marks(name: str) -> None:
    """Case 04: a base with the habits of Qwen3's template scored 0."""
    tokenizer, subject = chat_tokenizer(TEMPLATES[name]), row([("How is it?", "negative")])
    (example,) = rendered(tokenizer, subject)
    assert tokenizer.decode(example.answer_ids, skip_special_tokens=True).strip() == "negative"
    requests = asked_row(tokenizer, example)
    answers = [answer_reader(tokenizer)(example.answer_ids), "<think>\n\n</think>\n\nnegative"]
    assert [one["score"] for answer in answers for one in score_rows([requests], [answer])] == [1.0, 1.0]


@pytest.mark.parametrize("words", ["", "Let me look."])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("name", CALLING)
def test_calls_as_they_were_taught_score_full_marks_in_whatever_form(name: str, calls: int, words: str) -> None:
    """Case 04's sibling: bases whose templates write calls as XML scored 0, and so did calls behind words."""
    tokenizer = chat_tokenizer(CALLING[name])
    made = [{"arguments": {"a": f"x{number}", "b": 5}, "name": "f"} for number in range(calls)]
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    subject = row([("How is it?", canonical_json(made))]) | {"tools": canonical_json([function])}
    if words:
        subject |= {"history": canonical_json([["user", "How is it?"]]), "input": words}
    (example,) = rendered(tokenizer, subject)
    requests, answer = asked_row(tokenizer, example), answer_reader(tokenizer)(example.answer_ids)
    assert (requests["kind"], words in answer) == ("tool_calls", True)
    scores = [
        one["score"] for output in (answer, answer.replace("x0", "y0"), "") for one in score_rows([requests], [output])
    ]
    assert scores == [1.0, 0.0, 0.0]


def test_qwen3_is_prompted_as_it_is_without_thinking() -> None:
    tokenizer = chat_tokenizer(QWEN3)
    messages = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text.endswith("<think>\n\n</think>\n\n")
    assert Prompts(tokenizer).of_chat(messages) == tokenizer(text, add_special_tokens=False)["input_ids"]
    (example,) = rendered(tokenizer, row([("Hi", "Yes.")]))
    assert example.prompt == text


def test_a_thought_is_trained_behind_the_plain_generation_prompt() -> None:
    tokenizer = chat_tokenizer(QWEN3)
    talk = Conversation(
        [{"role": "user", "content": "6 x 7?"}, {"role": "assistant", "content": "42", THOUGHT: "Six sevens."}]
    )
    chat = ChatFormat(tokenizer)
    assert chat.has_thinking_mode
    ((prompt, answer),) = chat.sequences(talk, all_turns=False)
    assert prompt.endswith("<|im_start|>assistant\n")
    assert answer == "<think>\nSix sevens.\n</think>\n\n42<|im_end|>"
    requests = Prompts(tokenizer, thinks=True).of_chat(talk.messages[:1])
    assert requests == tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_a_rows_own_tags_are_a_thought_too_and_only_what_follows_is_scored() -> None:
    tokenizer = chat_tokenizer(QWEN3)
    (example,) = rendered(tokenizer, row([("6 x 7?", "<think>Six sevens.</think>42")]))
    assert example.prompt.endswith("<|im_start|>assistant\n")
    target = asked_row(tokenizer, example)["target"]
    for answer, score in (("42", 1), ("<think>\nHm.\n</think>\n\n42", 1), ("<think>42", 0), ("<think>42</think>no", 0)):
        assert score_answer("free", answer, target).score == score, answer
        assert score_answer("classification", answer, "42").score == score, answer


def test_tags_elsewhere_in_an_answer_are_text() -> None:
    for text in ("Close it with </think>.", "A thought begins with <think>", "<think>"):
        assert score_answer("free", text, text).score == 1
        assert score_answer("free", "Something else", text).score < 1


def test_a_thought_that_the_prompt_has_begun_is_left_out_of_what_is_scored() -> None:
    tokenizer = chat_tokenizer(OPEN_THOUGHT)
    talk = [{"role": "user", "content": "6 x 7?"}]
    assert (
        Prompts(tokenizer).of_chat(talk)[-3:]
        == tokenizer("<think>\n\n</think>\n\n", add_special_tokens=False)["input_ids"][-3:]
    )
    (example,) = rendered(tokenizer, row([("6 x 7?", "<think>Six sevens.</think>42")]))
    requests = asked_row(tokenizer, example)
    assert requests["opens_thought"] == example.prompt.rstrip().endswith("<think>")
    ((score,),) = [[one["score"] for one in score_rows([requests | {"opens_thought": True}], ["Hm.\n</think>\n\n42"])]]
    assert score == 1


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_a_thought_is_given_by_the_name_that_a_chat_template_has_for_it(key: str) -> None:
    chat = ChatFormat(chat_tokenizer(OPEN_THOUGHT.replace("reasoning_content", key)))
    talk = Conversation([{"role": "user", "content": "one?"}, {"role": "assistant", "content": "One.", THOUGHT: "hm"}])
    assert chat.writer.writes_thoughts
    ((_, answer),) = chat.sequences(talk, all_turns=True)
    assert answer == "hm\n</think>\n\nOne.<|im_end|>"


def test_a_thought_that_a_chat_template_does_not_write_is_no_answer() -> None:
    message = {"role": "assistant", "content": " ", THOUGHT: "hm"}
    assert ChatFormat(chat_tokenizer(TEMPLATES["chatml"])).is_blank(message)
    assert not ChatFormat(chat_tokenizer(QWEN3)).is_blank(message)


def test_a_chat_template_of_parts_is_given_parts() -> None:
    tokenizer = chat_tokenizer(PARTS)
    (example,) = rendered(
        tokenizer, row([("Hi", "Hello."), ("城市?", "它叫城市7。")], system="Be kind."), all_turns=True
    )
    assert tokenizer.decode(example.ids) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\n城市?<|im_end|>\n<|im_start|>assistant\n它叫城市7。<|im_end|></s>"
    )


def test_a_chat_template_that_leaves_contents_out_is_refused_in_one_line() -> None:
    tokenizer = chat_tokenizer("{% for m in messages %}<{{ m.role }}>{{ m.text }}{% endfor %}")
    with pytest.raises(ConfigError, match=r"base\.chat_template: the chat template omits the contents of turns"):
        rendered(tokenizer, row([("Hi", "Yes.")]))


@pytest.mark.parametrize("blank", ["", "   ", "\n\t"])
@pytest.mark.parametrize("name", ["chatml", "qwen3", "no generation prompt"])
def test_a_blank_earlier_answer_is_not_trained(name: str, blank: str) -> None:
    tokenizer = chat_tokenizer(TEMPLATES[name])
    turns = [("one?", blank), ("two?", "Two."), ("three?", "好")]
    examples = rendered(tokenizer, row(turns), all_turns=True)
    answers = [answer_reader(tokenizer)(answer) for example in examples for _, answer in trained(example)]
    assert answers == ["Two.", "好"]
    (dropped,) = Renderer(tokenizer, 4096).render([row([("one?", blank)])], plain)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "empty_answer"


def test_case_04_no_header_is_trained_where_the_generation_prompt_is_unknown() -> None:
    (example,) = rendered(chat_tokenizer(NO_GENERATION_PROMPT), row([("How is it?", "negative")]))
    assert example.prompt.endswith("<|assistant|>\n")


def test_of_a_pair_the_answer_that_does_not_think_begins_with_its_empty_thought() -> None:
    tokenizer = chat_tokenizer(QWEN3)
    (thinking,), (bare,) = (rendered(tokenizer, row([("6 x 7?", text)])) for text in ("<think>Hm.</think>42", "42"))
    for chosen, rejected in ((thinking, bare), (bare, thinking)):
        pair = as_pair(chosen, rejected)
        assert pair["prompt_ids"] == thinking.prompt_ids
        assert pair["prompt_ids"] + pair["chosen_ids"] == chosen.ids.tolist()
        assert pair["prompt_ids"] + pair["rejected_ids"] == rejected.ids.tolist()


def test_whether_answers_think_travels_with_the_model(project: Path) -> None:
    counts: Counter[str] = Counter()
    material = Material(chat_tokenizer(QWEN3), FAMILIES, RenderSettings(), counts)
    material.render([row([("6 x 7?", text)]) for text in ("<think>Hm.</think>42", "<think>So.</think>1", "2")])
    assert material.as_dict()["thinking"]
    write_json(project / "model" / TEMPLATES_FILE.name, material.as_dict())
    assert thinks_by_training(project / "model")
    material.render([row([("6 x 7?", text)]) for text in ("1", "2")])
    assert not material.as_dict()["thinking"]
    assert not thinks_by_training(project)
