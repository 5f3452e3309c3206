"""Records of every shape become rows, or say what keeps them from being one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.validate.shapes import Problem, own_id, to_fields

ROW = {"system": "", "history": "[]", "instruction": "", "input": "", "output": ""}


def sharegpt(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **more}


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": who, "content": text} for who, text in turns]}


@pytest.mark.parametrize(
    ("shape", "record", "fields"),
    [
        ("alpaca", {"instruction": "译", "input": "cat", "output": "猫"}, {"instruction": "译", "input": "cat", "output": "猫"}),
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
    ],
)  # fmt: skip
def test_every_shape_becomes_a_row(shape: str, record: dict[str, Any], fields: dict[str, str]) -> None:
    assert to_fields(record, shape, {}) == ROW | fields


def test_columns_of_other_names_are_found() -> None:
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
        ("alpaca", {"instruction": None, "output": "b"}, Problem("missing_field", "instruction", ["instruction", "output"])),
        ("alpaca", {"instruction": "a", "output": 42}, Problem("wrong_type", "output", 42)),
        ("alpaca", {"instruction": "a", "output": "b", "history": [["a"]]}, Problem("wrong_type", "history", ["a"])),
        ("text_label", {"text": "a", "label": True}, Problem("wrong_type", "label", True)),
        ("text_label", {"text": "a\ud83d", "label": "b"}, Problem("encoding_damage", "input", "a\ud83d")),
        ("messages", {"messages": "a"}, Problem("wrong_type", "messages", "a")),
        ("messages", {"messages": ["a"]}, Problem("wrong_type", "messages", "a")),
        ("messages", {"messages": []}, Problem("role_order", "messages", "no turns")),
        ("messages", messages(("user", "a")), Problem("role_order", "messages", "user")),
        ("messages", messages(("assistant", "a"), ("user", "b")), Problem("role_order", "messages", "assistant → user")),
        ("messages", messages(("user", "a"), ("user", "b")), Problem("role_order", "messages", "user → user")),
        (
            "messages",
            messages(("user", "a"), ("system", "b"), ("assistant", "c")),
            Problem("role_order", "messages", "user → system → assistant"),
        ),
        ("messages", messages(("tool", "a")), Problem("unknown_role", "messages.role", "tool")),
        ("messages", messages(("user", None)), Problem("missing_field", "messages.content", {"role": "user", "content": None})),
        (
            "messages",
            messages(("user", [{"type": "image_url"}]), ("assistant", "b")),
            Problem("wrong_type", "messages.content", {"type": "image_url"}),
        ),
        ("sharegpt", sharegpt(("function_call", "a")), Problem("unknown_role", "conversations.from", "function_call")),
    ],
)  # fmt: skip
def test_what_is_no_row_says_why(shape: str, record: Any, problem: Problem) -> None:
    assert to_fields(record, shape, {}) == problem


def test_the_own_id_is_looked_at_only_where_it_is_declared() -> None:
    assert own_id({"id": 7}, {}) is None
    assert own_id({"key": 7}, {"id": "key"}) == "7"
    assert own_id({"key": None}, {"id": "key"}) is None
    assert json.loads(own_id({"key": "七"}, {"id": "key"}) or "") == "七"
