"""Room `curate`: a small project with a template or two keeps its splits, and its training rows next to a golden set."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.toy_curation import curate, make, sentence, splits
from support.toy_rows import write_part

from tasks.records.row import row_id_of

NAMES = "Ann Bob Carl Dora Emil Fred Greta Hans Ida Jon Karl Lisa Max Nina Otto Paul Rosa Sven Tina Ute".split()  # noqa: SIM905
PLACES = "Rome Oslo Bern Kiel Bonn Lyon Riga Graz Linz Cork Nice Bath Pisa Turin Ulm Gent Metz York Leeds Essen".split()  # noqa: SIM905
LONG = "Keep in mind that it must not hold a link or a price, and that the tone stays calm. "
TEMPLATES = {
    "en": (
        "You are a careful assistant of a travel agency. Read the request of the customer below and write one short and "
        "friendly reply that confirms the booking, and ends with a wish. Customer {} goes to {} on day {}.",
        "Extract from the following sentence the person, the city and the day as a JSON object with three keys, and write "
        "nothing else but this object, without any comment. Sentence: {} went to {} by train on day {}.",
    ),
    "zh": (
        "请阅读下面的客户请求，并用一句简短、友好的话回复客户，确认预订，重复姓名和地点，最后送上一句祝福，不要添加任何其他内容。"
        "客户{}将前往{}，在第{}天。",
        "从下面的句子中抽取人物、城市和日期，以JSON对象输出，键分别为人物、城市和日期，不要写任何其他内容，也不要加注释。"
        "句子：{}坐火车去了{}，第{}天。",
    ),
}


def from_templates(draw: random.Random, templates: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    chosen: dict[str, str] = {}
    while len(chosen) < count:
        slots = draw.choice(NAMES), draw.choice(PLACES), draw.randrange(1, 90)
        chosen[templates[len(chosen) % len(templates)].format(*slots)] = " ".join(map(str, slots))
    return [make(question, answer) for question, answer in chosen.items()]


def write(number: int, rows: list[dict[str, Any]], use: str = "train") -> list[str]:
    placed = [
        {**row, "use": use, "batch": f"b{number}", "index": index, "source": f"s{number if use != 'train' else 0}"}
        for index, row in enumerate(rows)
    ]
    for row in placed:
        row["row_id"] = row_id_of(row)
    write_part(placed, f"{number:06d}-b{number}.parquet")
    return [row["row_id"] for row in placed]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("count", "templates", "long"),
    [(30, 2, ""), (60, 2, LONG), (120, 1, ""), (120, 2, ""), pytest.param(300, 2, LONG, marks=pytest.mark.slow)],
)
def test_a_project_with_few_templates_keeps_its_splits_and_its_training_rows(
    project: Path, language: str, count: int, templates: int, long: str
) -> None:
    draw = random.Random(5)
    used = tuple(long + template for template in TEMPLATES[language][:templates])
    rows = write(1, from_templates(draw, used, count))
    write(2, from_templates(draw, used, 10), "golden")
    report = curate(project)
    assert report["dropped"].get("contaminated", 0) <= 1, "a question of the golden set itself, at most"
    on = Counter(map(splits().get, rows))
    assert on["train"] > 0.4 * count
    assert 0 < on["test"] < 0.45 * count


def test_a_template_does_not_hide_a_golden_question_in_training(project: Path) -> None:
    draw = random.Random(7)
    rows = from_templates(draw, TEMPLATES["en"], 60)
    letter = sentence(draw, 40)
    rows[3] = make(f"{TEMPLATES['en'][0]} The whole letter: {letter} Was it kind?", "yes")
    ids = write(1, rows)
    write(
        2,
        [*from_templates(draw, TEMPLATES["en"], 9), make(f"{TEMPLATES['en'][0]} The letter: {letter} Why?", "no")],
        "golden",
    )
    curate(project, test_share=0.02, valid_share=0.02)
    assert ids[3] not in splits()
    assert sum(split == "train" for split in splits().values()) > 40


def test_a_greeting_that_many_dialogues_begin_with_takes_none_out_of_training(project: Path) -> None:
    draw = random.Random(10)
    greeting = json.dumps([["user", "Hi"], ["assistant", "Hello! How can I help you today?"]])
    rows = [make(sentence(draw, 20), sentence(draw, 20), family="dialogue", history=greeting) for _ in range(60)]
    write(1, [*rows[:25], *(make(sentence(draw, 20), "yes") for _ in range(25))])
    write(2, rows[25:31], "golden")
    report = curate(project)
    assert report["dropped"] == {}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_later_batches_of_a_template_lose_no_row(project: Path, language: str) -> None:
    draw = random.Random(8)
    rows = from_templates(draw, TEMPLATES[language], 150)
    write(1, rows[:100])
    for number in range(2, 7):
        write(number, rows[90 + 10 * (number - 1) : 100 + 10 * (number - 1)])
    assert curate(project)["dropped"] == {}


def test_a_value_that_many_rows_hold_and_another_does_not_makes_two_prompts_differ(project: Path) -> None:
    """Ann and Rome stand in more than ten prompts, but only in one of these two: no fixed part of theirs."""
    draw = random.Random(9)
    rows = write(1, from_templates(draw, TEMPLATES["en"][:1], 300))
    curate(project)
    on = Counter(map(splits().__getitem__, rows))
    assert on["test"] > 20
    assert on["valid"] > 5


def project_of(draw: random.Random, language: str, count: int, templates: int, length: int) -> list[dict[str, Any]]:
    """Rows of made templates, each with a short slot behind it."""
    fixed = [sentence(draw, length, language).rsplit(" ", 1)[0] for _ in range(templates)]
    chosen: dict[str, str] = {}
    while len(chosen) < count:
        slot = f"{draw.choice(NAMES)} {draw.choice(PLACES)} {draw.randrange(1000)}"
        chosen[f"{fixed[len(chosen) % templates]} {slot}"] = sentence(draw, 3, language)
    return [make(question, answer) for question, answer in chosen.items()]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("count", "templates"), [(60, 1), (240, 1), (60, 2), (240, 2), pytest.param(1000, 5, marks=pytest.mark.slow)]
)
def test_a_long_template_takes_no_training_row_out_for_a_golden_set_from_it(
    project: Path, language: str, count: int, templates: int
) -> None:
    """A template of 120 tokens was taken for a passage wherever two slots had a name in common: half of the rows were lost."""
    draw = random.Random(3)
    rows = project_of(draw, language, count + 20, templates, 120)
    ids = write(1, rows[:count])
    write(2, rows[count:], "golden")
    assert curate(project)["dropped"].get("contaminated", 0) <= 0.02 * count + 1
    assert Counter(map(splits().get, ids))["train"] >= 0.45 * count


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("templates", [3, 4, 6])
@pytest.mark.parametrize("length", [30, 60, 120])
@pytest.mark.parametrize("has_golden", [False, True])
def test_no_split_of_a_small_project_with_several_templates_is_empty(
    project: Path, language: str, templates: int, length: int, has_golden: bool
) -> None:
    """Each template was a group, and all groups came to one side, or a golden set took all of them out of training."""
    rows = project_of(random.Random(length), language, 70, templates, length)
    ids = write(1, rows[:60])
    if has_golden:
        write(2, rows[60:], "golden")
    curate(project)
    on = Counter(splits().values())
    assert on["test"] > 0
    assert Counter(map(splits().get, ids))["train"] >= 0.2 * 60


@pytest.mark.parametrize("seed", range(6))
def test_a_dataset_of_whole_passages_is_divided_between_passages_and_never_within_one(project: Path, seed: int) -> None:
    draw = random.Random(seed)
    passages = [sentence(draw, 100) for _ in range(3)]
    ids = write(1, [make(f"{passages[n % 3]}\n{sentence(draw, 9)}?", f"answer {n}") for n in range(60)])
    write(2, [make(f"{passages[n % 3]}\n{sentence(draw, 9)}?", f"later {n}") for n in range(6)])
    assert curate(project)["dropped"] == {}
    kept = splits()
    assert all(len({kept[row] for row in ids[index::3]}) == 1 for index in range(3))
    assert set(kept.values()) >= {"train", "test"}
