"""Calls of tools, and their results in the order of the calls. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from tasks.records.ordered_json import dumps, loads, without_nulls
from tasks.records.shape_fields import NoRow, Turn, json_of, wrong_type

OBSERVATION = "observation"
"""ShareGPT's role of results: one turn for all calls before it, or one for each call."""
_ARGUMENTS = ("arguments", "parameters", "input")


class Calls(NamedTuple):
    text: str
    """JSON [{"arguments", "name"}, ...], keys of arguments in their order, numbers as written."""
    ids: tuple[str | None, ...]


def calls_of(value: Any, field: str) -> Calls:
    """The calls of a turn, in any known form.

    Raises:
        NoRow: they are not calls.
    """
    calls = json_of(value, field) if isinstance(value, str) else value
    parsed, ids = [], []
    for call in calls if isinstance(calls, list) else [calls]:
        inner = (call.get("function") or call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise wrong_type(field, value)
        parsed.append({"arguments": _arguments(inner, field), "name": inner["name"]})
        own = call.get("id")
        if own is not None and not isinstance(own, str):
            raise wrong_type(f"{field}.id", own)
        ids.append(own or None)
    if not parsed:
        raise wrong_type(field, value)
    return Calls(dumps(parsed), tuple(ids))


def _arguments(call: dict[str, Any], field: str) -> Any:
    arguments: Any = next((call[key] for key in _ARGUMENTS if call.get(key) is not None), {})
    if not isinstance(arguments, str):
        return without_nulls(arguments)
    try:  # OpenAI's are JSON within JSON; those of a model may be invalid
        return json_of(arguments, field)
    except NoRow as error:
        if error.problem.code == "wrong_type":
            return arguments
        raise


def in_order_of_calls(turns: list[Turn], column: str) -> list[Turn]:
    """The turns, with the results after each `tool_call` in the order of its calls.

    If a call or a result has an id, each call needs exactly one result with its id. Without ids, each call needs a result: they are
    matched by name if the names are those of the calls, each once; else by order. One `observation` may answer all calls.

    Raises:
        NoRow: an id or a result is missing, unknown, or repeated.
    """
    ordered: list[Turn] = []
    index = 0
    while index < len(turns):
        ordered.append(turns[index])
        index += 1
        if ordered[-1].role != "tool_call":
            continue
        first = index
        while index < len(turns) and turns[index].role == "tool":
            index += 1
        if index > first:  # the last turn may be a call without a result
            ordered += _matched(ordered[-1], turns[first:index], column)
    return ordered


def _matched(call: Turn, results: list[Turn], column: str) -> list[Turn]:
    result_ids = [result.ids[0] if result.ids else None for result in results]
    if not any((*call.ids, *result_ids)):
        return _without_ids(call, results, column)
    where = f"{column}.tool_call_id"
    if None in call.ids:
        raise NoRow("tool_call_id", f"{column}.tool_calls.id", "a call without an id, among ids of calls or results")
    if len(set(call.ids)) < len(call.ids):
        raise NoRow("tool_call_id", f"{column}.tool_calls.id", f"two calls of one id: {', '.join(map(str, call.ids))}")
    by_id: dict[str | None, Turn] = {}
    for own, result in zip(result_ids, results, strict=True):
        if own is None:
            raise NoRow("tool_call_id", where, "a result without an id, where calls have ids")
        if own not in call.ids:
            calls = ", ".join(map(str, call.ids))
            raise NoRow("tool_call_id", where, f"a result of {own}; the calls before it are {calls}")
        if own in by_id:
            raise NoRow("tool_call_id", where, f"two results of the call {own}")
        by_id[own] = result
    if missing := [own for own in call.ids if own not in by_id]:
        raise NoRow("tool_call_id", where, f"no result of the call {missing[0]}")
    return [by_id[own] for own in call.ids]


def _without_ids(call: Turn, results: list[Turn], column: str) -> list[Turn]:
    answers_all = len(results) == 1 and results[0].speaker == OBSERVATION
    if len(results) != len(call.ids) and not answers_all:
        what = f"{len(results)} results of {len(call.ids)} calls, without ids: which answers which is not known"
        raise NoRow("tool_call_id", f"{column}.tool_call_id", what)
    by_name = {result.speaker: result for result in results}
    names = [each_call["name"] for each_call in loads(call.text)] if len(results) > 1 else []
    return [by_name[name] for name in names] if len(by_name) == len(names) and by_name.keys() == set(names) else results
