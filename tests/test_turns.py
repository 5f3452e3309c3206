"""What a record says of its turns is used or refused: which are trained, what was thought, which call a result answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.records.row import NO_TEXT, row_id_of
from tasks.records.shapes import Problem, to_fields

CALLED = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "w", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    {"id": "t", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]}  # fmt: skip


def message(who: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": who, "content": content, **more}


def fields_of(*turns: dict[str, Any], shape: str = "messages", **more: Any) -> dict[str, str]:
    """The fields of a dialogue that are not empty."""
    result = to_fields({"messages": list(turns), **more}, shape, {})
    assert isinstance(result, dict), result
    return {name: text for name, text in result.items() if text != NO_TEXT.get(name)}


def problem_of(*turns: dict[str, Any], shape: str = "messages", **more: Any) -> Problem:
    result = to_fields({"messages": list(turns), **more}, shape, {})
    assert isinstance(result, Problem), result
    return result


def id_of(record: Any, shape: str = "messages") -> str:
    result = to_fields(record, shape, {})
    assert isinstance(result, dict), result
    return row_id_of({"family": "f", **result})


@pytest.mark.parametrize("flag", [{"weight": 0}, {"train": False}, {"loss_mask": 0}, {"loss": False}, {"weight": 0.0}])
def test_case_02_an_answer_that_is_not_trained_is_only_context(flag: dict[str, Any]) -> None:
    result = fields_of(
        message("user", "a"), message("assistant", "No.", **flag), message("user", "b"), message("assistant", "c")
    )
    assert result == {
        "history": '[["user","a"],["assistant","No."]]', "input": "b", "output": "c", "untrained": "[-3]",
    }  # fmt: skip


def test_case_02_a_dialogue_without_an_answer_to_train_teaches_nothing() -> None:
    problem = problem_of(message("user", "a"), message("assistant", "b", weight=0))
    assert problem == Problem("nothing_to_learn", "messages", "none of its answers is to be trained")


def test_case_02_flags_of_sharegpt_and_a_mask_of_the_turns_are_equivalent() -> None:
    turns = [{"from": who, "value": text} for who, text in (("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))]
    flagged = [turns[0], turns[1] | {"weight": 0}, *turns[2:]]
    records = [
        {"conversations": flagged},
        {"conversations": turns, "loss_mask": [0, 0, 0, 1]},
        {"conversations": turns, "loss_mask": [False, True]},
        {"conversations": turns, "loss_mask": "[0, 1]"},
    ]
    assert len({id_of(record, "sharegpt") for record in records}) == 1
    assert id_of({"conversations": turns}, "sharegpt") != id_of(records[0], "sharegpt")


def test_answers_behind_the_last_that_is_trained_are_neither_trained_nor_judged() -> None:
    turns = [
        message("user", "a"),
        message("assistant", "good"),
        message("user", "b"),
        message("assistant", "bad", weight=0),
    ]
    assert fields_of(*turns) == {"input": "a", "output": "good"}
    assert problem_of(*turns, shape="kto", label=True).code == "nothing_to_learn"
    chosen = {"chosen": message("assistant", "c", train=False), "rejected": message("assistant", "d")}
    assert problem_of(message("user", "a"), shape="preference", **chosen).code == "nothing_to_learn"


@pytest.mark.parametrize(
    ("turn", "field"),
    [
        (message("assistant", "b", weight=0.5), "messages.weight"),
        (message("assistant", "b", train="no"), "messages.train"),
        (message("assistant", "b", thinking=["x"]), "messages.thinking"),
        (message("assistant", "b", thinking="x", reasoning="y"), "messages.reasoning_content"),
        (message("assistant", [{"type": "reasoning"}]), "messages.content"),
        (message("assistant", [{"type": "audio", "audio": "x"}]), "messages.content"),
        (message("assistant", [{"type": "tool_result", "content": "x"}]), "messages.content"),
        (message("assistant", "", tool_calls=[{"name": "f"}], function_call={"name": "g"}), "messages.function_call"),
        (message("tool_call", '{"name": "f"}', tool_calls=[{"name": "g"}]), "messages.content"),
    ],
)
def test_what_cannot_be_used_is_refused(turn: dict[str, Any], field: str) -> None:
    problem = problem_of(message("user", "a"), turn)
    assert (problem.code, problem.field) == ("wrong_type", field)


def test_the_type_of_a_part_that_is_not_known_is_named_with_those_that_are() -> None:
    problem = problem_of(message("user", [{"type": "input_audio"}]), message("assistant", "b"))
    known = "text, image_url, reasoning, thinking, tool_call, tool_use, tool_result"
    assert problem.value == f"a part of the type `input_audio`; known are {known}"


@pytest.mark.parametrize(
    "more", [{"train": True}, {"loss_mask": 1}, {"thinking": "x"}, {"tool_calls": [{"name": "f"}]}]
)
def test_what_is_an_answer_s_is_refused_of_other_turns(more: dict[str, Any]) -> None:
    assert problem_of(message("user", "a", **more), message("assistant", "b")).code == "wrong_type"
    assert fields_of(message("user", "a", weight=1, thinking=None), message("assistant", "b")) == {
        "input": "a",
        "output": "b",
    }


def test_a_mask_of_another_length_is_refused() -> None:
    turns = [message("user", "a"), message("assistant", "b")]
    assert "1 of them the assistant's" in problem_of(*turns, loss_mask=[0, 1, 1]).value
    assert problem_of(*turns, loss_mask=[1, 1]).field == "loss_mask"


@pytest.mark.parametrize(
    "answer",
    [
        message("assistant", "42", reasoning_content="6*7"),
        message("assistant", "42", reasoning="6*7", thinking=None),
        message("assistant", "42", thinking="6*7", reasoning_content="6*7"),
        message("assistant", [{"type": "reasoning", "text": "6*7"}, {"type": "text", "text": "42"}]),
        message("assistant", [{"type": "thinking", "thinking": "6*7"}, {"type": "text", "text": "42"}]),
    ],
)
def test_case_03_a_thought_is_stored_with_its_answer(answer: dict[str, Any]) -> None:
    assert fields_of(message("user", "a"), answer) == {"input": "a", "output": "42", "thoughts": '[[-1,"6*7"]]'}


def test_thoughts_of_earlier_answers_and_of_both_answers_of_a_pair_are_kept() -> None:
    dialogue = (
        message("user", "a"),
        message("assistant", "b", thinking="t"),
        message("user", "c"),
        message("assistant", "d"),
    )
    assert fields_of(*dialogue)["thoughts"] == '[[-3,"t"]]'
    pair = {"chosen": message("assistant", "d", thinking="good"), "rejected": message("assistant", "e", thinking="bad")}
    assert fields_of(*dialogue[:3], shape="preference", **pair)["thoughts"] == '[[-3,"t"],[-1,"good"],[0,"bad"]]'


def test_case_11_keys_and_numbers_of_tools_calls_and_results_are_as_the_record_has_them() -> None:
    record = """{"messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"to": 1e3, "from": -0}}}]},
        {"role": "tool", "content": {"z": 1.50, "a": [{"y": 1, "b": 2}]}}, {"role": "assistant", "content": "b"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"to": {"default": 2E5}, "from": {}}}}]}"""
    from tasks.records.ordered_json import loads

    result = to_fields(loads(record), "messages", {})
    assert isinstance(result, dict)
    assert json.loads(result["history"])[-1] == ["tool_call", '[{"arguments":{"to":1e3,"from":-0},"name":"f"}]']
    assert result["input"] == '{"z":1.50,"a":[{"y":1,"b":2}]}'
    assert result["tools"] == (
        '[{"type":"function","function":{"name":"f","parameters":{"to":{"default":2E5},"from":{}}}}]'
    )


def test_arguments_as_text_keep_what_they_hold_and_are_refused_where_a_value_would_be_lost() -> None:
    def called(arguments: Any) -> list[dict[str, Any]]:
        return [
            message("user", "a"),
            message("assistant", None, tool_calls=[{"function": {"name": "f", "arguments": arguments}}]),
        ]

    assert fields_of(*called('{"b": null, "a": 1e3}'))["output"] == '[{"arguments":{"b":null,"a":1e3},"name":"f"}]'
    assert fields_of(*called({"b": None, "a": [None]}))["output"] == '[{"arguments":{"a":[null]},"name":"f"}]'
    assert fields_of(*called("no JSON"))["output"] == '[{"arguments":"no JSON","name":"f"}]'
    assert problem_of(*called('{"a": 1, "a": 2}')).code == "duplicate_keys"
    assert problem_of(*called('{"a": 1e999}')).code == "not_finite"


def test_case_12_results_stand_in_the_order_of_their_calls() -> None:
    results = message("tool", "14:05", tool_call_id="t"), message("tool", "22 degrees", tool_call_id="w")
    result = fields_of(message("user", "a"), CALLED, *results, message("assistant", "b"))
    assert [json.loads(result["history"])[-1], result["input"]] == [["tool", "22 degrees"], "14:05"]


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ([("x", "t")], "no result of the call w"),
        ([("x", "t"), ("y", "other")], "a result of other; the calls before it are w, t"),
        ([("x", "t"), ("y", "t")], "two results of the call t"),
        ([("x", "w"), ("y", None)], "a result without an id, where calls have ids"),
    ],
)
def test_case_12_results_that_answer_no_call_are_refused(results: list[tuple[str, str | None]], why: str) -> None:
    answered = [message("tool", text, tool_call_id=own) for text, own in results]
    problem = problem_of(message("user", "a"), CALLED, *answered, message("assistant", "b"))
    assert problem == Problem("tool_call_id", "messages.tool_call_id", why)


def test_calls_without_ids_are_answered_in_order_and_one_that_nothing_answers_yet_may_end_the_dialogue() -> None:
    bare = {**CALLED, "tool_calls": [{"name": "weather"}, {"name": "time"}]}
    result = fields_of(
        message("user", "a"), bare, message("tool", "x"), message("tool", "y"), message("assistant", "b")
    )
    assert result["input"] == "y"
    assert fields_of(message("user", "a"), CALLED)["output"].startswith('[{"arguments":{},"name":"weather"}')
    problem = problem_of(
        message("user", "a"),
        bare,
        message("tool", "x", tool_call_id="1"),
        message("tool", "y"),
        message("assistant", "b"),
    )
    assert problem == Problem(
        "tool_call_id", "messages.tool_calls.id", "a call without an id, among ids of calls or results"
    )


def test_calls_and_results_as_parts_of_the_content_are_those_of_openai() -> None:
    requests, text, end = message("user", "a"), {"type": "text", "text": "I look."}, message("assistant", "b")
    call = {"id": "1", "name": "f", "arguments": {"x": 1}}
    plain = [requests, message("assistant", "I look.", tool_calls=[call]), message("tool", "7", tool_call_id="1"), end]
    result = {"type": "tool_result", "tool_call_id": "1", "content": "7"}
    parts = [requests, message("assistant", [text, {"type": "tool_call", **call}]), message("tool", [result]), end]
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}
    used = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "7"}]}
    anthropic = [requests, message("assistant", [text, use]), message("user", [used]), end]
    assert fields_of(*plain) == fields_of(*parts) == fields_of(*anthropic)
    late = message("assistant", [{"type": "tool_call", "name": "f"}, {"type": "text", "text": "x"}])
    assert problem_of(message("user", "a"), late).code == "wrong_type"


def test_turns_that_are_json_in_a_text_are_read() -> None:
    turns = [message("user", "a"), message("assistant", "b")]
    assert id_of({"messages": json.dumps(turns)}) == id_of({"messages": turns})
    assert problem_of() == Problem("role_order", "messages", "no turns")


def _called(*names: str) -> dict[str, Any]:
    return message("assistant", None, tool_calls=[{"function": {"name": name, "arguments": "{}"}} for name in names])


@pytest.mark.parametrize("results", [["22"], ["22", "14:05", "x"]])
def test_case_12_results_without_ids_are_as_many_as_their_calls(results: list[str]) -> None:
    turns = [
        message("user", "a"),
        _called("weather", "time"),
        *(message("tool", text) for text in results),
        message("assistant", "b"),
    ]
    problem = problem_of(*turns)
    assert (problem.code, problem.field) == ("tool_call_id", "messages.tool_call_id")
    assert "of 2 calls, without ids" in problem.value


def test_case_12_results_without_ids_are_ordered_by_the_names_of_their_tools() -> None:
    results = [message("tool", "14:05", name="time"), message("tool", "22", name="weather")]
    result = fields_of(message("user", "a"), _called("weather", "time"), *results, message("assistant", "b"))
    assert (json.loads(result["history"])[-1], result["input"]) == (["tool", "22"], "14:05")
    twice = fields_of(message("user", "a"), _called("time", "time"), *[results[0]] * 2, message("assistant", "b"))
    assert twice["input"] == "14:05"


def test_one_observation_may_answer_all_calls_of_sharegpt() -> None:
    calls = {"from": "function_call", "value": '[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]'}
    turns = [
        {"from": "human", "value": "a"},
        calls,
        {"from": "observation", "value": "[1, 2]"},
        {"from": "gpt", "value": "b"},
    ]
    result = to_fields({"conversations": turns}, "sharegpt", {})
    assert isinstance(result, dict)
    assert result["input"] == "[1, 2]"
    three = to_fields({"conversations": [*turns[:2], *[turns[2]] * 3, turns[3]]}, "sharegpt", {})
    assert isinstance(three, Problem)
    assert three.code == "tool_call_id"


def test_a_thought_in_the_content_and_another_in_the_turn_are_refused() -> None:
    problem = problem_of(message("user", "a"), message("assistant", "<think>x</think>b", reasoning_content="y"))
    assert (problem.code, problem.field) == ("wrong_type", "messages.content")
