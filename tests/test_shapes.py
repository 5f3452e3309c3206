"""Records of every shape become rows, or say what keeps them from being one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.realdata import real

from tasks.records.row import NO_TEXT
from tasks.records.shapes import Problem, own_id, to_fields

ROW = dict(NO_TEXT)
CALL = {"name": "weather", "arguments": {"city": "北京"}}
CALLS = '[{"arguments":{"city":"北京"},"name":"weather"}]'
TOOLS = [{"name": "weather", "description": "天气"}]


def sharegpt(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **more}


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": who, "content": text} for who, text in turns]}


def kept(sha256: str | None, path: str = "1.png") -> dict[str, Any]:
    """OpenAI's part that is an image, as ingestion leaves it."""
    result = {"sha256": sha256} if sha256 else {"fault": "stands on the web"}
    return {"type": "image_url", "image_url": {"path": path, **result}}


def turns(*output: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), each.split(" ", 1), strict=True)) for each in output]


@pytest.mark.parametrize(
    ("shape", "record", "fields"),
    [
        (
            "alpaca",
            {"instruction": "译", "input": "cat", "output": "猫"},
            {"instruction": "译", "input": "cat", "output": "猫"},
        ),
        ("alpaca", {"instruction": "Hi", "output": "Ho", "input": None}, {"instruction": "Hi", "output": "Ho"}),
        (
            "alpaca",
            {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]]},
            {"instruction": "c", "output": "d", "system": "s", "history": '[["user","a"],["assistant","b"]]'},
        ),
        ("prompt_completion", {"prompt": "2+2", "completion": "4"}, {"input": "2+2", "output": "4"}),
        ("text_label", {"text": "进球了", "label": "体育"}, {"input": "进球了", "output": "体育"}),
        ("sharegpt", sharegpt(("human", "a"), ("gpt", "b"), system="s"), {"system": "s", "input": "a", "output": "b"}),
        (
            "messages",
            messages(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
            {"system": "s", "history": '[["user","a"],["assistant","b"]]', "input": "c", "output": "d"},
        ),
        (
            "messages",
            messages(("user", [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}]), ("Assistant", "c")),
            {"input": "a\nb", "output": "c"},
        ),
        (
            "sharegpt",
            sharegpt(
                ("system", "s"),
                ("human", "天气？"),
                ("function_call", json.dumps(CALL)),
                ("observation", "晴"),
                ("gpt", "晴天"),
                tools=json.dumps(TOOLS),
            ),
            {
                "system": "s",
                "history": json.dumps(
                    [["user", "天气？"], ["tool_call", CALLS]], ensure_ascii=False, separators=(",", ":")
                ),
                "input": "晴",
                "output": "晴天",
                "tools": '[{"name":"weather","description":"天气"}]',
            },
        ),
        (
            "messages",
            {
                "messages": [
                    {"role": "developer", "content": "s"},
                    {"role": "user", "content": "Weather?"},
                    {
                        "role": "assistant",
                        "content": "I look.",
                        "tool_calls": [
                            {
                                "id": "1",
                                "type": "function",
                                "function": {"name": "weather", "arguments": json.dumps(CALL["arguments"])},
                            },
                            {"id": "2", "type": "function", "function": {"name": "time", "arguments": "not json"}},
                        ],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
                    {"role": "tool", "tool_call_id": "2", "content": {"hour": 7}},
                    {"role": "assistant", "content": "Sunny, at 7."},
                ],
                "tools": TOOLS,
            },
            {
                "system": "s",
                "history": json.dumps(
                    [
                        ["user", "Weather?"],
                        ["assistant", "I look."],
                        ["tool_call", CALLS[:-1] + ',{"arguments":"not json","name":"time"}]'],
                        ["tool", "sunny"],
                    ],
                    ensure_ascii=False,
                    separators=(",", ":"),
                ),
                "input": '{"hour":7}',
                "output": "Sunny, at 7.",
                "tools": '[{"name":"weather","description":"天气"}]',
            },
        ),
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": "去查"},
                    {"role": "assistant", "content": None, "tool_calls": [CALL]},
                ]
            },
            {"input": "去查", "output": CALLS},
        ),
        ("sharegpt", sharegpt(("human", "a"), ("gpt", "b"), tools="[]"), {"input": "a", "output": "b"}),
        (
            "messages",
            messages(("user", "<image>谁？"), ("assistant", "他")) | {"images": [{"path": "1.jpg", "sha256": "ab"}]},
            {"input": "<image>谁？", "output": "他", "images": '["ab"]'},
        ),
        (
            "preference",
            {"prompt": "你好", "chosen": "您好", "rejected": "滚"},
            {"input": "你好", "output": "您好", "rejected": "滚"},
        ),
        (
            "preference",
            sharegpt(
                ("system", "s"),
                ("human", "a"),
                ("gpt", "b"),
                ("human", "c"),
                chosen={"from": "gpt", "value": "good"},
                rejected={"from": "gpt", "value": "bad"},
            ),
            {
                "system": "s",
                "history": '[["user","a"],["assistant","b"]]',
                "input": "c",
                "output": "good",
                "rejected": "bad",
            },
        ),
        (
            "preference",
            {"chosen": turns("user a", "assistant good"), "rejected": turns("user a", "assistant bad")},
            {"input": "a", "output": "good", "rejected": "bad"},
        ),
        (
            "kto",
            messages(("user", "问"), ("assistant", "答")) | {"label": True},
            {"input": "问", "output": "答", "desirable": "true"},
        ),
        (
            "kto",
            {"prompt": "a", "completion": "b", "label": "False"},
            {"input": "a", "output": "b", "desirable": "false"},
        ),
        ("text", {"text": "从前有座山。"}, {"output": "从前有座山。"}),
        ("parallel", {"source": "cat", "target": "猫"}, {"input": "cat", "output": "猫"}),
        (
            "conll",
            {"tokens": ["Ann", "Lee", "saw", "Bo", "."], "tags": ["B-person", "I-person", "O", "B-person", "O"]},
            {
                "input": "Ann Lee saw Bo .",
                "output": '[{"type":"person","text":"Ann Lee","start":0,"end":7},'
                '{"type":"person","text":"Bo","start":12,"end":14}]',
            },
        ),
        (
            "conll",
            {
                "tokens": ["我", "在", "北", "京", "用", "iPhone", "15", "。"],
                "tags": ["O", "O", "B-城市", "I-城市", "O", "B-p", "I-p", "O"],
            },
            {
                "input": "我在北京用iPhone 15。",
                "output": '[{"type":"城市","text":"北京","start":2,"end":4},{"type":"p","text":"iPhone 15","start":5,"end":14}]',
            },
        ),
        ("conll", {"tokens": ["a"], "tags": ["O"]}, {"input": "a", "output": "[]"}),
        *(
            (
                "conll",
                {"tokens": ["Bank", "of", "York"], "tags": tags},
                {
                    "input": "Bank of York",
                    "output": '[{"type":"ORG","text":"Bank of York","start":0,"end":12},'
                    '{"type":"LOC","text":"York","start":8,"end":12}]',
                },
            )
            for tags in (
                ["B-ORG", "I-ORG", "I-ORG,B-LOC"],
                ["B-ORG", "I-ORG|O", "B-LOC|I-ORG"],
                [["B-ORG"], ["I-ORG"], ["I-ORG", "B-LOC"]],
            )
        ),
        (
            "conll",
            {"tokens": ["Paris", "Hilton"], "tags": ["B-LOC,B-PER", "I-PER"]},
            {
                "input": "Paris Hilton",
                "output": '[{"type":"LOC","text":"Paris","start":0,"end":5},'
                '{"type":"PER","text":"Paris Hilton","start":0,"end":12}]',
            },
        ),
        (
            "conll",
            {"tokens": ["a"], "tags": ["B-x,y"]},
            {"input": "a", "output": '[{"type":"x,y","text":"a","start":0,"end":1}]'},
        ),
        (
            "text_label",
            {"text": "a", "label": "b", "strop_synthetic": {"recipe": "paraphrase", "parents": ["p1"]}},
            {"input": "a", "output": "b", "synthetic": "paraphrase", "parents": '["p1"]'},
        ),
        (
            "row",
            {"input": "a", "output": "b", "rejected": "c", "images": '["x"]'},
            {"input": "a", "output": "b", "rejected": "c", "images": '["x"]'},
        ),
        (
            "messages",
            messages(
                ("user", [{"type": "text", "text": "谁？"}, kept("ab")]),
                ("assistant", "他"),
                ("user", [kept("cd")]),
                ("assistant", "b"),
            ),
            {
                "history": '[["user","谁？\\n<image>"],["assistant","他"]]',
                "input": "<image>",
                "output": "b",
                "images": '["ab","cd"]',
            },
        ),
        (
            "preference",
            {"prompt": messages(("user", [kept("ab")]))["messages"], "chosen": "b", "rejected": "c"},
            {"input": "<image>", "output": "b", "rejected": "c", "images": '["ab"]'},
        ),
        (
            "text_label",
            {"text": "\u202eevil\u200b", "label": "b\u200d"},
            {"input": "\u202eevil\u200b", "output": "b\u200d"},
        ),
    ],
)
def test_every_shape_becomes_a_row(shape: str, record: dict[str, Any], fields: dict[str, str]) -> None:
    assert to_fields(record, shape, {}) == ROW | fields


def test_columns_with_other_names_are_mapped() -> None:
    assert to_fields({"body": "a", "section": "b"}, "text_label", {"text": "body", "label": "section"}) == ROW | {
        "input": "a",
        "output": "b",
    }
    record = {"chat": [{"who": "user", "says": "a"}, {"who": "bot", "says": "b"}]}
    columns = {"messages": "chat", "role": "who", "content": "says"}
    assert to_fields(record, "messages", columns) == ROW | {"input": "a", "output": "b"}


@pytest.mark.parametrize(
    ("shape", "record", "problem"),
    [
        ("alpaca", ["a"], Problem("not_an_object", "record", ["a"])),
        ("alpaca", {"instruction": "a"}, Problem("missing_field", "output", ["instruction"])),
        (
            "alpaca",
            {"instruction": None, "output": "b"},
            Problem("missing_field", "instruction", ["instruction", "output"]),
        ),
        ("alpaca", {"instruction": "a", "output": 42}, Problem("wrong_type", "output", 42)),
        ("alpaca", {"instruction": "a", "output": "b", "history": [["a"]]}, Problem("wrong_type", "history", ["a"])),
        ("text_label", {"text": "a", "label": 1.0}, Problem("wrong_type", "label", 1.0)),
        ("text_label", {"text": "a", "label": True}, Problem("wrong_type", "label", True)),
        ("text_label", {"text": "a\ud83d", "label": "b"}, Problem("encoding_damage", "input", "a\ud83d")),
        ("messages", {"messages": "a"}, Problem("wrong_type", "messages", "a")),
        ("messages", {"messages": ["a"]}, Problem("wrong_type", "messages", "a")),
        ("messages", {"messages": []}, Problem("role_order", "messages", "no turns")),
        ("messages", messages(("user", "a")), Problem("role_order", "messages", "user")),
        (
            "messages",
            messages(("assistant", "a"), ("user", "b")),
            Problem("role_order", "messages", "assistant → user"),
        ),
        ("messages", messages(("user", "a"), ("user", "b")), Problem("role_order", "messages", "user → user")),
        (
            "messages",
            messages(("user", "a"), ("system", "b"), ("assistant", "c")),
            Problem("role_order", "messages", "user → system → assistant"),
        ),
        ("messages", messages(("tool", "a")), Problem("role_order", "messages", "tool")),
        ("messages", messages(("robot", "a")), Problem("unknown_role", "messages.role", "robot")),
        (
            "messages",
            messages(("user", "a"), ("tool", "b"), ("assistant", "c")),
            Problem("role_order", "messages", "user → tool → assistant"),
        ),
        (
            "messages",
            messages(*[("user", "a"), ("assistant", "b")] * 5000),
            Problem("role_order", "messages", "10,000 turns; at most 1,000 are a dialogue"),
        ),
        ("preference", {"prompt": "a", "chosen": "b"}, Problem("missing_field", "rejected", ["chosen", "prompt"])),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": 3}, Problem("wrong_type", "rejected", 3)),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": []}, Problem("role_order", "rejected", "no turns")),
        ("preference", {"chosen": "b", "rejected": "c"}, Problem("role_order", "chosen", "assistant")),
        (
            "preference",
            {"chosen": turns("user a", "assistant b"), "rejected": turns("user other", "assistant c")},
            Problem("role_order", "rejected", "user → assistant, after another dialogue than the other's"),
        ),
        ("kto", {"prompt": "a", "completion": "b", "label": 2}, Problem("wrong_type", "label", 2)),
        ("kto", {"prompt": "a", "completion": "b"}, Problem("missing_field", "label", ["completion", "prompt"])),
        ("kto", {"label": True}, Problem("missing_field", "messages", ["label"])),
        ("text", {"text": ["a"]}, Problem("wrong_type", "text", ["a"])),
        ("parallel", {"source": "a"}, Problem("missing_field", "target", ["source"])),
        ("conll", {"tokens": ["a"], "tags": ["O", "O"]}, Problem("wrong_type", "tags", "2 tags for 1 tokens")),
        (
            "conll",
            {"tokens": ["a", "b"], "tags": ["O", "I-x"]},
            Problem("wrong_type", "tags", "I-x at token 2 (b) follows O; BIO allows it not"),
        ),
        (
            "conll",
            {"tokens": ["a", "b"], "tags": ["B-y", "I-x"]},
            Problem("wrong_type", "tags", "I-x at token 2 (b) follows B-y; BIO allows it not"),
        ),
        (
            "conll",
            {"tokens": ["a"], "tags": ["I-x"]},
            Problem("wrong_type", "tags", "I-x at token 1 (a) follows nothing; BIO allows it not"),
        ),
        (
            "conll",
            {"tokens": ["a"], "tags": ["B"]},
            Problem("wrong_type", "tags", "B at token 1 (a) follows nothing; BIO allows it not"),
        ),
        ("conll", {"tokens": "a", "tags": ["O"]}, Problem("wrong_type", "tokens", "a")),
        ("conll", {"tokens": ["a"], "tags": [[]]}, Problem("wrong_type", "tags", [])),
        (
            "conll",
            {"tokens": ["a", "b"], "tags": ["B-x", "I-x,B-x"]},
            Problem("wrong_type", "tags", "two tags of x at token 2 (b): I-x,B-x"),
        ),
        (
            "conll",
            {"tokens": ["a", "b", "c"], "tags": ["B-x,B-y", "I-y", "I-x"]},
            Problem("wrong_type", "tags", "I-x at token 3 (c) follows I-y; BIO allows it not"),
        ),
        (
            "messages",
            messages(("user", "a"), ("assistant", "b")) | {"images": [{"path": "x.jpg", "fault": "not found"}]},
            Problem("missing_field", "images", "x.jpg: not found"),
        ),
        (
            "messages",
            messages(("user", "a"), ("assistant", "b")) | {"images": ["x.jpg"]},
            Problem("missing_field", "images", "x.jpg"),
        ),
        ("sharegpt", sharegpt(("human", "a"), ("gpt", "b"), tools="[NaN]"), Problem("wrong_type", "tools", "[NaN]")),
        (
            "text_label",
            {"text": "a", "label": "b", "strop_synthetic": "x"},
            Problem("wrong_type", "strop_synthetic", "x"),
        ),
        (
            "text_label",
            {"text": "a", "label": "b", "strop_synthetic": {"recipe": "x", "parents": [1]}},
            Problem("wrong_type", "strop_synthetic", {"recipe": "x", "parents": [1]}),
        ),
        (
            "messages",
            messages(("user", None)),
            Problem("missing_field", "messages.content", {"role": "user", "content": None}),
        ),
        (
            "messages",
            messages(("user", [{"type": "image_url"}]), ("assistant", "b")),
            Problem("wrong_type", "messages.content", {"type": "image_url"}),
        ),
        (
            "messages",
            messages(("user", [kept(None, "http://x")]), ("assistant", "b")),
            Problem("missing_field", "messages.content", "http://x: stands on the web"),
        ),
        (
            "messages",
            messages(("user", "a"), ("assistant", [kept("ab")])),
            Problem("wrong_type", "messages.content", "an image in what the assistant says"),
        ),
        (
            "messages",
            messages(("user", [kept("ab")]), ("assistant", "b")) | {"images": [{"path": "x", "sha256": "cd"}]},
            Problem("wrong_type", "images", "images in the turns, and others beside them: their order is not known"),
        ),
        ("sharegpt", sharegpt(("function_call", "a")), Problem("wrong_type", "conversations.value", "a")),
        (
            "sharegpt",
            sharegpt(("function_call", '[{"arguments": {}}]')),
            Problem("wrong_type", "conversations.value", '[{"arguments": {}}]'),
        ),
        ("sharegpt", sharegpt(("function_call", "[]")), Problem("wrong_type", "conversations.value", "[]")),
    ],
)
def test_a_record_that_is_not_a_row_has_a_reason(shape: str, record: Any, problem: Problem) -> None:
    assert to_fields(record, shape, {}) == problem


def test_the_own_id_is_looked_at_only_where_it_is_declared() -> None:
    assert own_id({"id": 7}, {}) is None
    assert own_id({"key": 7}, {"id": "key"}) == "7"
    assert own_id({"key": None}, {"id": "key"}) is None
    assert json.loads(own_id({"key": "七"}, {"id": "key"}) or "") == "七"


REAL = {
    "llamafactory/dpo_en_demo.json": ("preference", 300, lambda f: f["rejected"] and f["output"]),
    "llamafactory/kto_en_demo.json": ("kto", 300, lambda f: f["desirable"] in ("true", "false")),
    "llamafactory/glaive_toolcall_en_demo.json": ("sharegpt", 300, lambda f: f["input"] and f["output"]),
    "llamafactory/c4_demo.jsonl": ("text", 300, lambda f: f["output"]),
    "llamafactory/v1_sft_demo.jsonl": ("messages", None, lambda f: f["output"]),
    "llamafactory/alpaca_zh_demo.json": ("alpaca", 500, lambda f: f["instruction"]),
}


@pytest.mark.parametrize("name", REAL)
def test_every_record_of_a_real_file_becomes_a_row(name: str) -> None:
    shape, count, is_good = REAL[name]
    text = real(name).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    rows = [to_fields(record, shape, {}) for record in records]
    assert count in (None, len(rows))
    assert [row for row in rows if isinstance(row, Problem)] == []
    assert all(is_good(row) for row in rows)  # type: ignore[no-untyped-call]


def test_real_tool_calls_become_calls_and_results() -> None:
    text = real("llamafactory/glaive_toolcall_en_demo.json").read_text(encoding="utf-8")
    rows = [to_fields(record, "sharegpt", {}) for record in json.loads(text)]
    calls = 0
    for row in rows:
        assert isinstance(row, dict)
        message = json.loads(row["history"])
        for place, (who, text) in enumerate(message):
            if who == "tool_call":
                calls += 1
                assert all(call.keys() == {"name", "arguments"} for call in json.loads(text))
                assert place + 1 == len(message) or message[place + 1][0] == "tool"
        assert row["tools"] == "" or isinstance(json.loads(row["tools"]), list)
    assert calls == 211  # as many as the file holds


def read(shape: str, **record: Any) -> dict[str, str] | Problem:
    return to_fields(record, shape, {})


def test_a_pair_whose_messages_are_the_better_dialogue_is_a_row() -> None:
    """As in UltraFeedback: every one of its pairs was refused as `another dialogue than the other's`."""
    better, worse = turns("user a", "assistant b"), turns("user a", "assistant c")
    pair = read("preference", prompt="a", messages=better, chosen=better, rejected=worse)
    assert pair == ROW | {"input": "a", "output": "b", "rejected": "c"}
    assert pair == read("preference", chosen=better, rejected=worse)


def test_a_completion_of_kto_may_be_a_turn_and_is_kept_if_there_are_other_turns() -> None:
    requests, answer = turns("user a"), turns("assistant b")
    row = ROW | {"input": "a", "output": "b", "desirable": "true"}
    assert read("kto", prompt=requests, completion=answer, label=True) == row
    assert read("kto", messages=requests, completion="b", label=True) == row
    assert read("kto", messages=[*requests, *answer], completion="b", label=True) == row
    assert read("kto", messages=[*requests, *answer], completion="", label=True) == row, "an empty cell of CSV"
    for completion in ("other", turns("user a", "assistant b")):
        problem = read("kto", messages=[*requests, *answer], completion=completion, label=True)
        assert isinstance(problem, Problem)
        assert problem.field == "completion"


def test_a_second_system_text_is_refused_unless_it_is_the_same() -> None:
    output = [("system", "s"), ("human", "a"), ("gpt", "b")]
    assert read("sharegpt", **sharegpt(*output, system="s ")) == read("sharegpt", **sharegpt(*output))
    assert read("sharegpt", **sharegpt(*output, system="t")) == Problem(
        "wrong_type", "system", "a system text beside another in the turns"
    )


@pytest.mark.parametrize("tags", ["B-x M-x E-x O S-y", "B-x I-x E-x O S-y", "B-x I-x L-x O U-y", "B-x I-x I-x O B-y"])
def test_tags_of_other_schemes_are_the_same_entities(tags: str) -> None:
    result = read("conll", tokens=list("一二三四五"), tags=tags.split())
    assert isinstance(result, dict)
    assert [(each["type"], each["text"]) for each in json.loads(result["output"])] == [("x", "一二三"), ("y", "五")]


@pytest.mark.parametrize("tags", ["E-x", "M-x", "S-x I-x", "B-x E-x I-x", "B-x L-x E-x", "S", "E"])
def test_tags_of_other_schemes_in_no_order_of_theirs_are_refused(tags: str) -> None:
    problem = read("conll", tokens=list("abc")[: len(tags.split())], tags=tags.split())
    assert isinstance(problem, Problem)
    assert problem.code == "wrong_type"
