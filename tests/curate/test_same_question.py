"""Room `curate`: which rows are the same question, and which share text that two splits may not share."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toy_curation import (
    CHINESE,
    batch_of,
    curate,
    dropped,
    make,
    sentence,
    some_rows,
    split_of_text,
    splits,
    splits_of,
    texts_in,
)
from support.toy_rows import write_part

from tasks import paths
from tasks.curate.dedup.wording import differ_in_wording_alone
from tasks.errors import DataError
from tasks.lineage.conflicts import conflicts
from tasks.state.decisions import record_decision

TITLES = [
    "The Godfather",
    "The Godfather Part II",
    "Alien",
    "Aliens",
    "Heat",
    "Up",
    "2001",
    "2010",
    "12 Angry Men",
    "Ran",
]
COURTESY = "如果您还有其他问题，随时可以问我。"
HELP = "If you have any other questions or need further help, please do not hesitate to ask me at any time."


def titles(count: int) -> list[str]:
    return [f"{TITLES[n % len(TITLES)]} {'' if n < len(TITLES) else n // len(TITLES)}".strip() for n in range(count)]


def dialogue(*turns: str, batch: str = "b1", index: int = 0, **more: Any) -> dict[str, Any]:
    import json

    history = [[("user", "assistant")[n % 2], turn] for n, turn in enumerate(turns[:-2])]
    return make(turns[-2], turns[-1], batch, index, family="dialogue", history=json.dumps(history), **more)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "Summarise this report in three short sentences for me.",
            "Please summarise this report in three short sentences!",
        ),
        ("What colour is the sky on a clear summer day?", "What color is the sky on a clear summer day"),
        ("请问你知道北京的人口是多少吗？", "你知道北京人口是多少？"),
        ("Name the capital of France", "Now just name the capital of France"),
    ],
)
def test_texts_that_differ_in_courtesy_spelling_or_punctuation_ask_the_same(first: str, second: str) -> None:
    assert differ_in_wording_alone(first, second)
    assert differ_in_wording_alone(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What is C++ used for in industry today?", "What is C# used for in industry today?"),
        ("Is 2⁵ more than 30?", "Is 25 more than 30?"),
        ("Is x < 3 for all of them?", "Is x > 3 for all of them?"),
        ("Is -5 more than 30?", "Is 5 more than 30?"),
        ("Is 3.14 a number?", "Is 314 a number?"),
        ("What a day 😀", "What a day 😡"),
        ("Is it true that cats sleep a lot?", "Is it not true that cats sleep a lot?"),
        ("Is The Godfather a good film?", "Is The Godfather Part II a good film?"),
        ("Does Alice like Bob's garden?", "Does Bob like Alice's garden?"),
        ("北京的人口是多少？", "南京的人口是多少？"),
        ("Who wrote it in 1998?", "Who wrote it in 1999?"),
        ("label: PER", "label: LOC"),
    ],
)
def test_texts_that_differ_in_a_name_a_number_a_symbol_or_their_order_do_not(first: str, second: str) -> None:
    assert not differ_in_wording_alone(first, second)
    assert not differ_in_wording_alone(second, first)


@given(st.text(), st.text())
def test_asking_the_same_has_no_direction_and_a_text_asks_the_same_as_itself(first: str, second: str) -> None:
    assert differ_in_wording_alone(first, first)
    assert differ_in_wording_alone(first, second) == differ_in_wording_alone(second, first)


def test_case_25_symbols_and_digits_make_another_question(project: Path) -> None:
    questions = [
        ("What is C++ used for in industry today, mostly?", "Systems programming."),
        ("What is C# used for in industry today, mostly?", "Systems programming."),
        ("Is 2⁵ equal to 32 in decimal notation?", "Please compute it."),
        ("Is 25 equal to 32 in decimal notation?", "Please compute it."),
        ("我今天收到了一封信，心情是😀，请判断这句话的情感。", "说不清"),
        ("我今天收到了一封信，心情是😡，请判断这句话的情感。", "说不清"),
        ("For which numbers is x < 3 the right condition here?", "Those."),
        ("For which numbers is x > 3 the right condition here?", "Those."),
    ]
    batch_of(1, [*some_rows(), *questions])
    assert curate(project)["dropped"] == {}


@pytest.mark.parametrize("rows_a_batch", [240, 40, 1])
def test_prompts_with_one_long_fixed_part_and_a_short_slot_are_different_rows(project: Path, rows_a_batch: int) -> None:
    count = 240 if rows_a_batch > 1 else 30
    fixed = "You are given the title of a film. Say in one word whether one who likes old films would like it. Title: {}. Answer:"
    rows = [make(fixed.format(title), "yes", "films", n) for n, title in enumerate(titles(count))]
    batch_of(1, some_rows())
    for number, start in enumerate(range(0, count, rows_a_batch), start=2):
        some = [{**row, "index": n, "batch": f"b{number}"} for n, row in enumerate(rows[start : start + rows_a_batch])]
        write_part(some, f"{number:06d}-b{number}.parquet")
    assert curate(project)["dropped"] == {}
    if rows_a_batch > 1:
        on = Counter(split for row_id, split in splits().items() if row_id in {row["row_id"] for row in rows})
        assert min(on["test"] / 0.1, on["train"] / 0.5) > count, "each stands where its own hash puts it"


@pytest.mark.parametrize("rows_a_batch", [240, 24])
def test_a_plain_word_more_in_a_short_slot_is_another_row(project: Path, rows_a_batch: int) -> None:
    """Titles in small letters, noun phrases and misspellings have no capitals and digits; 21 of such 240 rows were dropped."""
    draw = random.Random(4)
    things = "apple banana carrot cherry lemon melon orange peach potato tomato onion garlic pepper spinach".split()  # noqa: SIM905
    words = "green red ripe fresh small large sweet sour wild dried frozen baked yellow young old".split()  # noqa: SIM905
    chosen: dict[str, str] = {}
    while len(chosen) < 240:
        thing = draw.choice(things)
        phrase = [*draw.sample(words, draw.randrange(3)), draw.choice([thing, f"{thing}s"])]
        chosen[" ".join(phrase)] = "fruit" if things.index(thing) % 2 else "vegetable"
    fixed = "Is the thing that is named below a fruit or a vegetable? Answer with one word and nothing else. Thing: "
    requests = [(fixed + phrase, answer) for phrase, answer in chosen.items()]
    for number, start in enumerate(range(0, 240, rows_a_batch), start=1):
        batch_of(number, requests[start : start + rows_a_batch])
    assert curate(project)["dropped"].get("near_duplicate", 0) <= (0 if rows_a_batch == 240 else 3)


def test_many_rewordings_of_one_question_are_one_row(project: Path) -> None:
    requests = "what is it that makes the leaves of the trees turn red and yellow in the autumn of each year"
    more = "please just now indeed really perhaps maybe kindly then there again today here also well".split()  # noqa: SIM905
    batch_of(1, [*some_rows(), *((f"{requests} {word}?", "Their green goes.") for word in more)])
    assert curate(project)["dropped"] == {"near_duplicate": len(more) - 1}


def test_the_same_passage_with_another_question_is_another_row_in_the_same_split(project: Path) -> None:
    draw = random.Random(5)
    passage = sentence(draw, 80)
    requests = ["Who is it about?", "When did it happen, and where?"]
    pair = batch_of(1, [*some_rows(), *((f"{passage} {question}", "nobody") for question in requests)])[-2:]
    assert curate(project)["dropped"] == {}
    assert len(set(splits_of(pair))) == 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_forty_questions_on_one_passage_are_in_one_split_and_none_is_dropped(project: Path, language: str) -> None:
    draw = random.Random(6)
    passages = [sentence(draw, 80, language) for _ in range(3)]
    rows = [(f"{passage}\n{sentence(draw, 9, language)}?", str(n)) for passage in passages for n in range(40)]
    others = [(sentence(draw, 30, language), "yes") for _ in range(100)]
    made = batch_of(1, [*some_rows(), *rows, *others])[9:129]
    later = batch_of(2, [(f"{passage}\n{sentence(draw, 9, language)}?", "later") for passage in passages])
    assert curate(project)["dropped"] == {}
    for index in range(3):
        group = [*made[40 * index : 40 * (index + 1)], later[index]]
        assert len(set(splits_of(group))) == 1
    assert Counter(splits().values())["test"] > 10


def test_rows_of_a_golden_passage_are_not_trained_on(project: Path) -> None:
    draw = random.Random(8)
    passage = sentence(draw, 80)
    batch_of(1, some_rows())
    golden = batch_of(2, [(f"{passage} {n} who?", "him") for n in range(3)], use="golden")
    others = [(sentence(draw, 30), "yes") for _ in range(40)]
    trained = batch_of(3, [*((f"{passage} {n} when?", "then") for n in range(40)), *others])[:40]
    curate(project)
    kept = splits()
    assert {kept[row["row_id"]] for row in golden} == {"test"}
    assert not [row for row in trained if kept.get(row["row_id"]) == "train"]


def test_the_template_that_golden_and_trained_rows_have_in_common_drops_none(project: Path) -> None:
    draw = random.Random(9)
    fixed = "Read the message of the customer below with care, and say in one single word what the customer wants us to do about "
    fixed += "it now, or whether there is nothing at all to be done: "
    batch_of(1, some_rows())
    batch_of(2, [(fixed + sentence(draw, 12), "it") for _ in range(12)], use="golden")
    batch_of(3, [(fixed + sentence(draw, 12), "it") for _ in range(40)])
    assert curate(project)["dropped"] == {}


@pytest.mark.parametrize("formula", [COURTESY, HELP])
def test_a_formula_of_courtesy_does_not_contaminate(project: Path, formula: str) -> None:
    draw = random.Random(10)
    language = "zh" if formula == COURTESY else "en"

    def answer() -> str:
        return f"{sentence(draw, 30, language)} {formula}"

    batch_of(1, [*some_rows(), *((sentence(draw, 20, language), answer()) for _ in range(10))])
    batch_of(2, [(sentence(draw, 20, language), answer()) for _ in range(5)], use="golden")
    assert curate(project)["dropped"] == {}
    assert len(set(splits().values())) == 3


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("use", ["train", "golden"])
def test_case_14_a_dialogue_that_holds_a_held_out_exchange_is_not_trained_on(
    project: Path, language: str, use: str
) -> None:
    colours = ["amber", "pink", "grey", "teal"] if language == "en" else ["琥珀色", "粉色", "灰色", "青色"]

    def exchange(n: int) -> tuple[str, str]:
        if language == "en":
            return f"Which colour has door {n}?", f"It is {colours[n % 4]}."
        return f"门{n}是什么颜色？", f"是{colours[n % 4]}。"

    single = [dialogue(*exchange(n), index=n, use=use) for n in range(60)]
    longer = [
        dialogue(*exchange(n), f"And who painted gate {n}?", f"Painter {n} did.", batch="b2", index=n)
        for n in range(60)
    ]
    batch_of(3, some_rows())
    write_part(single, "000001-b1.parquet")
    write_part(longer, "000002-b2.parquet")
    curate(project)
    kept = splits()
    assert {kept[row["row_id"]] for row in single} >= {"test"}
    for one, two in zip(single, longer, strict=True):
        assert kept[one["row_id"]] != "test" or kept.get(two["row_id"]) != "train"
    if use == "train":
        assert len(kept) == 129, "they stand on one side instead of being dropped"


def test_a_corrected_type_of_an_entity_is_no_near_duplicate(project: Path) -> None:
    text = "Angela met the board of Siemens and of Bayer in Bonn on Monday and flew to Rome with Karl and Otto"
    names = ["Siemens", "Bayer", "Bonn", "Rome", "Karl", "Otto"]

    def answer(first: str) -> str:
        others = [{"text": name, "type": "PER" if n > 3 else "LOC"} for n, name in enumerate(names)]
        return str([*others, {"text": "Angela", "type": first}])

    first = batch_of(1, [*some_rows(), (text, answer("LOC"))])[-1]
    second = batch_of(2, [(text, answer("PER"))])[0]
    assert curate(project)["dropped"] == {}
    assert splits()[first["row_id"]] == splits()[second["row_id"]]


@pytest.mark.parametrize(("policy", "kept"), [("keep", "12"), ("newest", "2"), ("refuse", "1")])
def test_two_answers_of_one_source_to_one_prompt_are_kept_by_policy(project: Path, policy: str, kept: str) -> None:
    prompt = texts_in("train", 1)[0]
    batch_of(1, some_rows())
    first = make(prompt, "The capital is Bonn.", "b2") | {"source": "faq"}
    second = make(prompt, "The capital is Berlin.", "b3") | {"source": "faq"}
    elsewhere = make(prompt, "The capital is Rome.", "b4") | {"source": "chat"}
    for number, row in ((2, first), (3, second), (4, elsewhere)):
        write_part([row], f"{number:06d}-b{number}.parquet")
    report = curate(project, conflicts=policy)
    rows = splits()
    assert elsewhere["row_id"] in rows
    assert "".join(name for name, row in (("1", first), ("2", second)) if row["row_id"] in rows) == kept
    assert report["kept"] == len(rows)
    assert report["taken_out_later"] == ({"superseded": 1} if policy == "newest" else {})
    gone = {
        "keep": [],
        "newest": [(first["row_id"], "superseded", second["row_id"])],
        "refuse": [(second["row_id"], "conflict", first["row_id"])],
    }
    assert dropped(3) == gone[policy]


def test_a_row_that_would_join_passages_in_two_splits_is_dropped(project: Path) -> None:
    train, test = texts_in("train", 1)[0], texts_in("test", 1)[0]
    first, second = batch_of(1, [*some_rows(), (train, "a"), (test, "b")])[-2:]
    joined = batch_of(2, [(f"{train} {test}", "c")])[0]
    curate(project)
    assert dropped(2) == [(joined["row_id"], "bridges_splits", f"{first['row_id']} {second['row_id']}")]


def test_rows_keep_the_split_of_their_passage_when_its_first_row_is_excluded(project: Path) -> None:
    (text,) = texts_in("test", 1)
    draw = random.Random(12)
    batch_of(1, some_rows())
    batch_of(2, [(text, "yes")])
    followers = batch_of(3, [(f"{text} {sentence(draw, 60)}", str(n)) for n in range(5)])
    curate(project)
    assert set(splits_of(followers)) == {"test"}
    (paths.VALIDATED / "000002-b2.parquet").unlink()
    record_decision("exclude", "b2", "a test")
    curate(project)
    assert set(splits_of(followers)) == {"test"}


@given(st.integers(0, 100_000))
def test_no_group_is_in_two_splits_and_only_cross_split_duplicates_are_dropped(seed: int) -> None:
    from tasks.curate.sides.place import assign_splits

    draw = random.Random(seed)
    old, count = draw.randrange(6), draw.randrange(1, 12)
    split = {row: draw.randrange(3) for row in range(old + count)}
    links = [(a, b) for b in range(old, old + count) for a in range(b) if draw.random() < 0.2]
    assignment = assign_splits(links, old, split.__getitem__, {})
    now = {
        row: assignment.splits[row][0] if row in assignment.splits else split[row]
        for row in split
        if row not in assignment.cross_split
    }
    assert all(now[row] == split[row] for row in range(old)), "no earlier row moves"
    assert all(now[a] == now[b] for a, b in links if a in now and b in now)
    assert set(assignment.cross_split).isdisjoint(range(old))


def test_without_a_test_split_the_message_says_that_rows_are_linked(project: Path) -> None:
    text = next(t for t in (sentence(random.Random(n), 60) for n in range(99)) if split_of_text(t) == "train")
    batch_of(1, [(f"{text} {CHINESE[n]}", str(n)) for n in range(6)])
    with pytest.raises(DataError, match="5 of them follow the split of an earlier row"):
        curate(project)


def test_the_prompts_that_a_source_answered_in_several_ways_are_listed(project: Path) -> None:
    prompt = texts_in("train", 1)[0]
    batch_of(1, some_rows())
    rows = [make(prompt, answer, "b2", n) | {"source": "faq"} for n, answer in enumerate(["Bonn", "Berlin", "berlin "])]
    write_part(rows, "000002-b2.parquet")
    write_part([make(prompt, "Rome", "b3") | {"source": "chat"}], "000003-b3.parquet")
    curate(project)
    (conflict,) = conflicts()
    assert (conflict.source, conflict.prompt) == ("faq", prompt)
    assert [(each["row_id"], each["output"]) for each in conflict.answers] == [
        (r["row_id"], r["output"]) for r in rows[:2]
    ]


@pytest.mark.parametrize(
    ("question", "answer", "first_question", "first_answer"),
    [
        ("What is the capital of Peru?", "Lima.", "what is the capital of Peru", "Lima"),
        ("秘鲁的首都是哪里？", "利马。", "秘鲁的首都是哪里?", "利马"),
        ("“3.14”约等于什么？", "圆周率。", "3.14 约等于什么", "圆周率"),
    ],
)
def test_case_14_a_golden_question_in_a_dialogue_with_other_marks_takes_it_out_of_training(
    project: Path, question: str, answer: str, first_question: str, first_answer: str
) -> None:
    batch_of(1, some_rows())
    batch_of(2, [(question, answer)], use="golden")
    write_part([dialogue(first_question, first_answer, "And now?", "It is late.", batch="b3")], "000003-b3.parquet")
    curate(project)
    assert [reason for _, reason, _ in dropped(3)] == ["contaminated"]


def test_signs_and_points_of_numbers_make_another_exchange() -> None:
    from tasks.curate.sides.split import exchanges

    texts = ["is 3.14 more", "is 314 more", "is -5 more", "is 5 more", "is c++ good", "is c# good", "is x<y", "is x>y"]
    row = make("x")
    assert len({exchanges(row, text, "yes")[0] for text in texts}) == len(texts)
