"""Each rule refuses the rows that it is for and no others; a batch over the bound is set aside as a whole."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from support.toy_contract import CONTRACT, alpaca, batch_of, judge, raw_of, reasons, refuse
from support.toy_rows import topic_records

from tasks.records.parse import to_rows
from tasks.records.row import QUARANTINE_SCHEMA, VERDICT_SCHEMA
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.rules.rules import RULES, UNIQUE_ID, rules_of, sentence_of

CHINESE = "这是一个关于机器学习的问题，请你用中文详细地回答它。"
RUSSIAN = "Привет, как твои дела сегодня?"
ENGLISH = "This is a question about machine learning, answer it at length."


def rows_of(raw: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = to_rows(raw, batch_of(raw)).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b'{"instruction": "h', ("not_parsed", None, 'not_json: torn | {"instruction": "h')),
        (b"\xff\xfe", ("not_parsed", None, "not_json: torn | \\xff\\xfe")),
        ("text alone", ("not_an_object", "record", "text alone")),
        ({"instruction": "a"}, ("missing_field", "output", '["instruction"]')),
        (alpaca(output=float("nan")), ("wrong_type", "output", "NaN")),
        (alpaca(output=" \n"), ("empty_output", "output", " \n")),
        (alpaca(instruction=" "), ("input_too_short", "instruction", " ")),
        (alpaca(output="a\ufffd"), ("encoding_damage", "output", "a\ufffd")),
        (alpaca(instruction="it â€™s"), ("encoding_damage", "instruction", "it â€™s")),
        (alpaca(output="half \ud83d"), ("encoding_damage", "output", "half \\ud83d")),
        (alpaca(instruction=RUSSIAN), None),
        (alpaca("Хорошо, спасибо", RUSSIAN), ("language_script", "instruction", RUSSIAN)),
        (alpaca("是"), None),
        (alpaca("42"), None),
        (alpaca("👍"), None),
        (alpaca("$$x^2$$", "∫?"), None),
    ],
)  # fmt: skip
def test_a_row_is_refused_for_one_clear_reason(
    record: Any, expected: tuple[str, str | None, str | None] | None
) -> None:
    assert refuse(record) == expected


def test_lengths_are_counted_in_words_and_in_chinese_characters() -> None:
    contract = FamilyContract(min_input_segments=3, max_input_segments=6, min_output_segments=2, max_output_segments=4)
    good = alpaca("two words", "one two three")
    assert refuse(good, contract) is None
    assert refuse(alpaca("两字", "三个字"), contract) is None
    for record, reason in (
        (alpaca("two words", "one two"), "input_too_short"),
        (alpaca("two words", "one two three four five six seven"), "input_too_long"),
        (alpaca("two words", "这句话一共有八个字"), "input_too_long"),
        (alpaca("one", "one two three"), "output_too_short"),
        (alpaca("这句话太长", "one two three"), "output_too_long"),
    ):
        assert (refuse(record, contract) or ("",))[0] == reason


def test_the_script_must_be_that_of_the_declared_language() -> None:
    assert refuse(alpaca(CHINESE, CHINESE), language="zh") is None
    assert refuse(alpaca(ENGLISH, f"请翻译：{ENGLISH}"), language="zh") is None
    assert refuse(alpaca(CHINESE, ENGLISH), language="zh") is None  # one of the two is enough
    assert refuse(alpaca(ENGLISH, ENGLISH), language="zh") == ("language_script", "instruction", ENGLISH)
    assert refuse(alpaca(CHINESE, CHINESE), language="en") == ("language_script", "instruction", CHINESE)
    assert refuse(alpaca("OK", "ChatGPT"), language="zh") is None  # too few letters to say
    assert [row["language"] for row in rows_of(raw_of([alpaca(CHINESE, CHINESE), alpaca()]))] == ["zh", "en"]


def test_labels_are_short_or_of_the_list() -> None:
    topic = {"shape": "text_label", "family": "topic"}
    assert refuse({"text": "a goal", "label": "sport"}, **topic) is None
    assert refuse({"text": "进球了", "label": "体育"}, **topic) is None
    assert (refuse({"text": "a goal", "label": "sport " * 20}, **topic) or ("",))[0] == "label_too_long"
    listed = CONTRACT.of("topic").model_copy(update={"labels": ("sport", "体育")})
    assert refuse({"text": "a goal", "label": "Sports"}, listed, **topic) == ("label_not_allowed", "output", "Sports")
    assert refuse({"text": "a goal", "label": " sport\n"}, listed, **topic) is None


def test_a_field_that_the_family_requires_may_not_be_blank() -> None:
    assert refuse(alpaca("sport", "Which section?"), family="topic") == ("empty_field", "input", "")
    contract = FamilyContract(required_fields=("input", "system"))
    assert refuse(alpaca(input="a"), contract) == ("empty_field", "system", "")
    assert refuse(alpaca(input="a", system="b"), contract) is None


def test_a_source_id_is_unique_in_a_batch() -> None:
    records = [alpaca(str(number), key=key) for number, key in enumerate(["a", "b", "a", None, None])]
    judged = judge(raw_of(records, columns={"id": "key"}), CONTRACT.all, 1.0)
    assert reasons(judged) == [("duplicate_id", "id", '"a"')]
    assert judge(raw_of(records), CONTRACT.all, 1.0).facts.refused == 0


def test_the_tables_have_the_schemas_that_rooms_agreed_on() -> None:
    judged = judge(raw_of([alpaca(), b"x", alpaca("另一个", "做这个")]), CONTRACT.all, 0.5)
    assert judged.accepted.schema.equals(VERDICT_SCHEMA)
    assert judged.quarantined.schema.equals(QUARANTINE_SCHEMA)
    rows = rows_of(raw_of([alpaca(), b"x", alpaca("另一个", "做这个")]))
    assert judged.accepted.to_pylist() == [{"index": place, "row_id": rows[place]["row_id"]} for place in (0, 2)]
    (refused,) = judged.quarantined.to_pylist()
    assert (refused["index"], refused["line"], refused["record"]) == (1, 2, "x")


def test_long_values_are_cut_in_quarantine() -> None:
    result = refuse(alpaca(output={"a": "b" * 9000}))
    assert result is not None
    assert len(result[2] or "") == 500


@pytest.mark.parametrize(
    "damage", ["\ufffd", "\ufffd" * 9000, "â€™", "浣犲ソ涓栫晫", "锟斤拷", chr(0xD83D)],
    ids=["lost", "all lost", "cp1252", "GBK", "twice lost", "half a surrogate"],
)  # fmt: skip
@pytest.mark.parametrize(("before", "after"), [("A good sentence. ", " More. "), ("好的句子。", "，后面还有。")])
def test_what_is_shown_of_a_damaged_text_is_the_damage(damage: str, before: str, after: str) -> None:
    result = refuse(alpaca(f"{before * 400}{damage}{after * 400}"))
    assert result is not None
    reason, field, value = result
    assert (reason, field) == ("encoding_damage", "output")
    assert value is not None
    expected = damage[:60].encode("utf-8", "backslashreplace").decode()
    assert value.startswith(f"…{(before * 400)[-20:]}{expected}")
    assert value.endswith("…")
    assert len(value) < 160
    short = refuse(alpaca(f"{before}{damage[:9]}{after}"))
    assert short == (reason, field, f"{before}{damage[:9].encode('utf-8', 'backslashreplace').decode()}{after}")


def test_damage_in_the_worse_answer_or_in_the_tools_is_seen() -> None:
    pair = {"prompt": "Do this.", "chosen": "An answer.", "rejected": "it â€™s worse"}
    assert refuse(pair, shape="preference") == ("encoding_damage", "rejected", "it â€™s worse")
    turns = [{"role": "user", "content": "Do this."}, {"role": "assistant", "content": "An answer."}]
    tools = [{"name": "find", "description": "finds \ufffd"}]
    result = refuse({"messages": turns, "tools": tools}, shape="messages")
    assert result is not None
    assert result[:2] == ("encoding_damage", "tools")
    assert refuse({"messages": turns, "tools": [{"name": "find", "description": "查找"}]}, shape="messages") is None


def test_a_batch_over_the_bound_is_set_aside_whole_with_its_reasons() -> None:
    records = [*(alpaca(str(number)) for number in range(6)), b"x", b"y", alpaca(""), alpaca(3)]
    frame = raw_of(records)
    assert judge(frame, CONTRACT.all, 0.4).facts.state == "accepted"
    judged = judge(frame, CONTRACT.all, 0.39)
    assert judged.facts.state == "set_aside"
    assert judged.facts.refused_share == 0.4
    assert judged.accepted.num_rows == 0
    assert [reason for reason, _, _ in reasons(judged)] == ["batch_set_aside"] * 6 + ["not_parsed"] * 2 + [
        "empty_output",
        "wrong_type",
    ]
    assert judged.facts.top_reasons == [["not_parsed", 2], ["empty_output", 1], ["wrong_type", 1]]


def test_a_batch_that_is_too_small_is_set_aside() -> None:
    judged = judge(raw_of([alpaca()]), CONTRACT.all.model_copy(update={"min_batch_rows": 2}), 1.0)
    assert judged.facts.state == "set_aside"
    assert judged.facts.top_reasons == [["too_few_rows", 1]]


def test_people_release_and_drop_rows() -> None:
    frame = raw_of([alpaca("ok"), alpaca("\ufffd broken"), alpaca(""), b"torn", alpaca("unwanted")])
    ids = [row["row_id"] for row in rows_of(frame)]
    judged = judge(frame, CONTRACT.all, 0.5, frozenset([ids[1], ids[3]]), frozenset([ids[4]]))
    assert judged.accepted["index"].to_pylist() == [0, 1]
    assert [reason for reason, _, _ in reasons(judged)] == ["empty_output", "not_parsed", "dropped_by_decision"]
    assert judged.facts.released == 1
    assert judged.facts.refused_share == 0.5  # two of four: a dropped row counts neither way
    assert judged.facts.reasons == {"empty_output": 1, "not_parsed": 1}


def test_a_row_released_by_name_is_accepted_though_its_batch_is_set_aside() -> None:
    frame = raw_of([alpaca("ok"), b"a", b"b"])
    judged = judge(frame, CONTRACT.all, 0.5, frozenset([rows_of(frame)[0]["row_id"]]))
    assert judged.facts.state == "set_aside"
    assert judged.accepted.num_rows == 1


def test_every_rule_has_a_sentence_for_every_family() -> None:
    for contract in (CONTRACT.all, *CONTRACT.families.values(), FamilyContract(labels=("a", "b"))):
        for rule in rules_of(contract):
            assert "{" not in sentence_of(rule, contract)
            assert "None" not in sentence_of(rule, contract)
    codes = [rule.code for rule in (*RULES, UNIQUE_ID)]
    assert len(set(codes)) == len(codes)


def test_toy_articles_pass() -> None:
    judged = judge(raw_of(topic_records(30), shape="text_label", family="topic"), CONTRACT.of("topic"), 0.0)
    assert judged.facts.accepted == 30
