"""Offsets in an answer are updated with the text that they refer to, by cleaning and by masking."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.curate.filters import judge_row
from tasks.curate.settings import CurateSettings
from tasks.pii.settings import PiiSettings
from tasks.records.row import NO_TEXT

SETTINGS = CurateSettings(pii=PiiSettings(ip="mask"))


def row(**fields: Any) -> dict[str, Any]:
    return {"family": "entities", "language": "en", **NO_TEXT, **fields}


def judged(**fields: Any) -> dict[str, Any]:
    return judge_row(row(**fields), SETTINGS).row


def entity(sentence: str, text: str, kind: str = "X", **more: Any) -> dict[str, Any]:
    start = sentence.index(text)
    return {"type": kind, "text": text, "start": start, "end": start + len(text), **more}


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    ("sentence", "texts", "clean", "now"),
    [
        ("R&amp;D met Bob", ["R&amp;D", "Bob"], "R&D met Bob", ["R&D", "Bob"]),
        ("  \u200bAnn went <b>to</b> <i>Bonn</i>.</s>", ["Ann", "Bonn"], "Ann went to Bonn.", ["Ann", "Bonn"]),
        ("<p>张三</p><p>在&nbsp;北京</p>", ["张三", "北京"], "张三\n在 北京", ["张三", "北京"]),
        ("New\u200bYork is\x0bbig", ["New\u200bYork", "big"], "New York is\nbig", ["New York", "big"]),
        ("Write to li@example.org, Bob", ["li@example.org", "Bob"], "Write to [EMAIL], Bob", ["[EMAIL]", "Bob"]),
        ("R&amp;D: li@example.org or Bob\x00", ["li", "Bob"], "R&D: [EMAIL] or Bob", ["[EMAIL]", "Bob"]),
        ("打13812345678找王五", ["王五", "13812345678"], "打[PHONE]找王五", ["王五", "[PHONE]"]),
        ("Her telephone number is 020 7946 0958, says Ann", ["Ann", "020 7946 0958"], "Her telephone number is [PHONE], says Ann",
         ["Ann", "[PHONE]"]),
        ("nothing to do for Bob", ["Bob"], "nothing to do for Bob", ["Bob"]),
    ],
)  # fmt: skip
def test_offsets_of_entities_refer_to_the_cleaned_and_masked_text(
    sentence: str, texts: list[str], clean: str, now: list[str]
) -> None:
    made = judged(input=sentence, output=compact([entity(sentence, text) for text in texts]))
    assert made["input"] == clean
    assert made["output"] == compact([entity(clean, text) for text in now])


def test_entities_with_equal_names_keep_their_own_offsets() -> None:
    sentence = "<b>Bob</b> met Bob &amp; Bob"
    spans = [{"type": "PER", "text": "Bob", "start": start, "end": start + 3} for start in (3, 15, 25)]
    made = judged(input=sentence, output=compact(spans))
    assert [each["start"] for each in json.loads(made["output"])] == [0, 8, 14]


def test_spans_are_known_in_every_form_and_the_json_stays_as_it_was_written() -> None:
    sentence = "A&amp;B paid Bob"
    answers = [
        ('{"head": "A&amp;B", "head_start": 0, "head_end": 7, "tail": {"text": "Bob", "span": [13, 16]}, "w": 1.50}',
         '{"head": "A&B", "head_start": 0, "head_end": 3, "tail": {"text": "Bob", "span": [9, 12]}, "w": 1.50}'),
        ('[["PER","Bob",13,16],["ORG","A&amp;B",0,7]]', '[["PER","Bob",9,12],["ORG","A&B",0,3]]'),
        ('[\n  {\n    "word": "Bob",\n    "begin": 13,\n    "end": 15\n  }\n]',
         '[\n  {\n    "word": "Bob",\n    "begin": 9,\n    "end": 11\n  }\n]'),
        ('{"text": "Bob", "offset": 13, "length": 3}', '{"text": "Bob", "offset": 9, "length": 3}'),
        ('{"text": "A&amp;B", "offset": 0, "length": 7}', '{"text": "A&B", "offset": 0, "length": 3}'),
        ('{"answer_start": 13, "text": "Bob"}', '{"answer_start": 9, "text": "Bob"}'),
        ('{"PER": {"Bob": [[13, 15]]}, "ORG": {"A&amp;B": [[0, 6]]}}', '{"PER": {"Bob": [[9, 11]]}, "ORG": {"A&B": [[0, 2]]}}'),
        ('{"text": "Bob", "at": [{"start": 13, "end": 16}]}', '{"text": "Bob", "at": [{"start": 9, "end": 12}]}'),
        ('[["PER", "Bob", [13, 16]]]', '[["PER", "Bob", [9, 12]]]'),
        ('{"text": "Bob", "pos": 1, "length": 3}', '{"text": "Bob", "pos": 1, "length": 3}'),
        ('{"text": "nowhere", "start": 13, "end": 16}', '{"text": "nowhere", "start": 13, "end": 16}'),
        ('{"start": 13, "end": 16, "n": 3}', '{"start": 13, "end": 16, "n": 3}'),
    ]  # fmt: skip
    for answer, moved in answers:
        assert judged(input=sentence, output=answer)["output"] == moved


def test_each_answer_of_a_dialogue_points_into_the_turn_before_it() -> None:
    first, last = "\ufeffAnn &amp; Bob", "call Eve at li@example.org or Eve"
    turns = [["user", first], ["assistant", compact([entity(first, "Bob")])]]
    made = judged(input=last, output=compact([{**entity(last, "Eve"), "start": 30, "end": 33}]), history=compact(turns))
    assert json.loads(json.loads(made["history"])[1][1]) == [entity("Ann & Bob", "Bob")]
    assert json.loads(made["output"]) == [{"type": "X", "text": "Eve", "start": 23, "end": 26}]


def test_the_worse_answer_of_a_pair_follows_too() -> None:
    sentence = "R&amp;D met Bob"
    good, bad = compact([entity(sentence, "Bob")]), compact([entity(sentence, "met")])
    made = judged(input=sentence, output=good, rejected=bad)
    assert json.loads(made["output"]) == [entity("R&D met Bob", "Bob")]
    assert json.loads(made["rejected"]) == [entity("R&D met Bob", "met")]


PARTS = st.sampled_from(
    [
        "Bob",
        "Ann Lee",
        "王五",
        " ",
        ", ",
        "&amp;",
        "<b>x</b>",
        "\u200b",
        "\x0b",
        "\x00",
        "\r\n",
        "li@example.org",
        "13812345678",
        "。",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=10), st.data())
def test_a_span_quotes_what_it_points_at(parts: list[str], data: st.DataObject) -> None:
    sentence = "".join(parts)
    start = data.draw(st.integers(0, len(sentence) - 1))
    end = data.draw(st.integers(start + 1, len(sentence)))
    made = judged(input=sentence, output=compact([{"text": sentence[start:end], "start": start, "end": end}]))
    if made["output"]:
        (span,) = json.loads(made["output"])
        assert made["input"][span["start"] : span["end"]] == span["text"]
