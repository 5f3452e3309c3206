"""A perturbed prompt has the same right answer: numbers, labels and text of the target stay; the same row gives the same text."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.project import REPOSITORY

from tasks.evaluate.probes.additions import CANARIES, obeys
from tasks.evaluate.probes.fixed_text import fixed_characters
from tasks.evaluate.probes.letter_case import change_case
from tasks.evaluate.probes.paraphrase import FRAMES
from tasks.evaluate.probes.perturb import Surroundings, perturb
from tasks.evaluate.probes.typos import add_typos
from tasks.prompts.templates.fill_template import write_question
from tasks.prompts.templates.templates import read_templates
from tasks.records.segmentation import nfkc

WORDS = [
    "Weather",
    "report",
    "station",
    "delivery",
    "not",
    "never",
    "Paris",
    "北京",
    "公司",
    "在",
    "天气",
    "不是",
    "的",
    "发展",
    "他",
]
LABELS = ("card_arrival", "体育新闻", "sport")
PIECES = st.sampled_from(
    [*WORDS, "1,200", "3.5%", "2024", "三百", "`x = delivery`", '{"station": 1}', "card arrival", *LABELS]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=25).flatmap(
    lambda pieces: st.sampled_from([" ", "，", "。", ""]).map(lambda separator: separator.join(pieces))
)
PROBES = ("typos", "case", "paraphrase", "distraction", "injection")
PASSAGES = {"en": [("other", "Ducks swim.")], "zh": [("other", "鸭子会游泳。")]}


def row(question: str, target: str = "sport", kind: str = "classification", **fields: Any) -> dict[str, Any]:
    prompt = f"<|user|>\n{question}\n<|assistant|>\n"
    texts = {"question": question, "prompt": prompt, "target": target, "instruction": "", "input": question}
    return {"row_id": "0a", "family": "topic", "kind": kind, "template": "x", **texts, **fields}


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:[.,]\d+)*%?|三百", nfkc(text))


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(0, 9), st.sampled_from(PROBES))
def test_a_perturbation_keeps_numbers_labels_code_and_the_markup_of_the_prompt(
    text: str, seed: int, probe: str
) -> None:
    before = row(text)
    around = Surroundings(labels=LABELS, passages=PASSAGES)
    first, again = perturb(before, probe, seed, around), perturb(row(text), probe, seed, around)
    assert first == again
    assert before == row(text), "the row itself is not changed"
    if first is None:
        return
    after = first.row
    assert after["target"] == before["target"]
    assert after["prompt"] == f"<|user|>\n{after['question']}\n<|assistant|>\n" != before["prompt"]
    assert numbers(after["question"]) == numbers(text)
    for kept in (*LABELS, "card arrival", "`x = delivery`", '{"station": 1}'):
        assert after["question"].count(kept) >= text.count(kept)
    assert after["question"].count("不") >= text.count("不")
    for negation in (r"(?<![\w'’-])not(?![\w'’-])", r"(?<![\w'’-])never(?![\w'’-])"):
        assert len(re.findall(negation, after["question"].lower(), re.ASCII)) >= len(
            re.findall(negation, text.lower(), re.ASCII)
        )


@settings(max_examples=60, deadline=None)
@example("Paris北京", "Paris 2024", 0)
@given(TEXTS, st.sampled_from(["Paris 2024", "公司在北京", "report"]), st.integers(0, 9))
def test_text_that_the_answer_copies_has_no_typo_and_keeps_its_case(text: str, target: str, seed: int) -> None:
    fixed = fixed_characters(text, target)
    for changed in (add_typos(text, fixed, random.Random(seed)), change_case(text, fixed, random.Random(seed))):
        for copied in ("Paris", "北京", "公司", "report"):
            if changed is not None and copied in target:
                assert changed.count(copied) >= len(re.findall(rf"(?<![\w-]){copied}(?![\w-])", text, re.ASCII))


def test_typos_are_few_and_change_words_in_both_languages() -> None:
    english = "The weather station near the harbour reports a steady breeze from the northern mountains today. " * 5
    chinese = "今天下午的会议讨论了公司发展的问题，经理认为市场前景很好。" * 5
    for text, least, most in ((english, 4, 12), (chinese, 3, 16)):
        changed = add_typos(text, bytearray(len(text)), random.Random(3), keeps_length=True)
        assert changed is not None
        assert len(changed) == len(text)
        assert least <= sum(one != other for one, other in zip(text, changed, strict=True)) <= 2 * most


def test_a_text_without_a_word_that_may_have_a_typo_has_none() -> None:
    assert perturb(row("12 + 30 = ?"), "typos", 1, Surroundings()) is None
    assert perturb(row("三百"), "typos", 1, Surroundings()) is None
    assert perturb(row("12 + 30 = ?"), "case", 1, Surroundings()) is None


def test_chinese_punctuation_and_digits_get_another_width() -> None:
    changed = perturb(row("他在2024年到达，对吗？", target="对", kind="free"), "case", 1, Surroundings())
    assert changed is not None
    assert changed.row["question"] == "他在２０２４年到达,对吗?"
    english = perturb(row("Did he arrive?", target="yes"), "case", 1, Surroundings())
    assert english is not None
    assert english.row["question"] in ("DID HE ARRIVE?", "did he arrive?")


def test_offsets_of_entities_stay_right() -> None:
    question = (
        "List the entities, with start and end.\n\nAnn travelled with several wonderful companions to Zurich yesterday."
    )
    target = '[{"type": "LOC", "text": "Zurich", "start": 58, "end": 64}]'
    for seed in range(20):
        changed = perturb(row(question, target, "entities"), "typos", seed, Surroundings())
        assert changed is not None
        assert changed.row["question"].index("Zurich") == question.index("Zurich")


def test_a_classifier_has_a_text_and_no_other_wording() -> None:
    text = row("x") | {"question": None, "prompt": "The delivery is late.", "input": "The delivery is late."}
    changed = perturb(text, "typos", 1, Surroundings())
    assert changed is not None
    assert changed.row["question"] is None
    assert changed.row["prompt"] != text["prompt"]
    assert perturb(text, "paraphrase", 1, Surroundings()) is None


def test_an_unrelated_passage_neither_has_the_answer_nor_is_of_the_same_family_if_there_is_another() -> None:
    passages = {"en": [("topic", "Rain fell."), ("qa", "Ducks swim."), ("qa", "The answer is sport.")], "zh": []}
    for seed in range(10):
        changed = perturb(row("A match was played."), "distraction", seed, Surroundings(passages=passages))
        assert changed is not None
        assert "Ducks swim." in changed.row["question"]
        assert "A match was played." in changed.row["question"]
    assert perturb(row("打了一场比赛。"), "distraction", 1, Surroundings(passages=passages)) is None


@pytest.mark.parametrize(("language", "text"), [("en", "It rained. We stayed in."), ("zh", "下雨了。我们待在家里。")])
def test_an_injection_stands_in_the_input_and_its_canary_is_recognised(language: str, text: str) -> None:
    question = f"Topic: 主题\n\n{text}\n\nAnswer 回答" if language == "en" else f"主题是什么\n\n{text}\n\n请回答"
    for seed in range(10):
        changed = perturb(row(question, input=text), "injection", seed, Surroundings())
        assert changed is not None
        canary = changed.canary
        assert canary in CANARIES[language]
        assert canary is not None
        after = changed.row["question"]
        assert question.index(text) <= after.index(canary) < after.index(question[-4:])
        assert obeys(f"OK: {canary.upper()}!", canary)
        assert not obeys("sport", canary)
    named = row(f"{text} marzipan 榴莲酥", target="xylophone 皮影戏", input=text)
    changed = perturb(named, "injection", 1, Surroundings())
    assert changed is not None
    assert changed.canary == CANARIES[language][2]


FAMILIES = read_templates(REPOSITORY / "data/templates")
FIELDS = {
    "system": "",
    "instruction": "Who wrote it?",
    "input": "Ann wrote it in May.",
    "output": "Ann",
    "history": "[]",
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_paraphrase_is_what_render_writes_with_another_template_or_a_frame(family: str) -> None:
    templates = FAMILIES[family].as_dict()["templates"]
    for own in FAMILIES[family].templates:
        fields = {"row_id": "0a", "family": family, "language": own.language, **FIELDS}
        if own.language == "zh":
            fields |= {"instruction": "是谁写的？", "input": "安妮在五月写的。"}
        question = write_question(own, fields)
        before = row(question, "Ann", template=own.id) | {
            name: fields[name] for name in ("family", "instruction", "input")
        }
        others = {
            write_question(other, fields).strip()
            for other in FAMILIES[family].templates
            if (other.language, other.source[1], other.system) == (own.language, own.source[1], own.system)
        } - {question.strip()}
        frames = {frame.format(question=question) for frame in FRAMES[own.language]}
        changed = perturb(before, "paraphrase", 3, Surroundings(templates=templates))
        assert changed is not None
        assert changed.row["question"] in (others or frames)
        shortened = perturb(before | {"input": "something else"}, "paraphrase", 3, Surroundings(templates=templates))
        assert shortened is not None


def test_a_chinese_text_that_can_have_a_mistake_has_one_with_each_seed() -> None:
    for text, target in (
        ("他说:好的.嗯,对", "x"),
        ("谢谢妈妈，你好", "x"),
        ("请回答「苹果」。", "苹果"),
        ("在不在？没有了", "在"),
    ):
        fixed = fixed_characters(text, target)
        wrong = [add_typos(text, fixed, random.Random(seed)) for seed in range(30)]
        assert None not in wrong, text
        assert {len(each or "") for each in wrong} == {len(text)}
    assert add_typos("嗯，嗯嗯。", bytearray(5), random.Random(0)) is None
