"""Calls of tools, and the results that answer them, each to its call. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from tasks.records.ordered_json import dumps, loads, without_nulls
from tasks.records.shape_fields import NoRow, json_of
from tasks.records.turn import Turn

OBSERVATION = "observation"
"""ShareGPT's role of what tools answered: one turn for all the calls before it, or one a call."""
_ARGUMENTS = ("arguments", "parameters", "input")


class Calls(NamedTuple):
    text: str
    """JSON [{"arguments", "name"}, ...], keys of arguments in their order, numbers as written."""
    ids: tuple[str | None, ...]


def calls_of(given: Any, field: str) -> Calls:
    """The calls of a turn, in any of the forms in which they are written.

    Raises:
        NoRow: they are none.
    """
    calls = json_of(given, field) if isinstance(given, str) else given
    found, ids = [], []
    for call in calls if isinstance(calls, list) else [calls]:
        inner = (call.get("function") or call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise NoRow("wrong_type", field, given)
        found.append({"arguments": _arguments(inner, field), "name": inner["name"]})
        own = call.get("id")
        if own is not None and not isinstance(own, str):
            raise NoRow("wrong_type", f"{field}.id", own)
        ids.append(own or None)
    if not found:
        raise NoRow("wrong_type", field, given)
    return Calls(dumps(found), tuple(ids))


def _arguments(call: dict[str, Any], field: str) -> Any:
    arguments: Any = next((call[key] for key in _ARGUMENTS if call.get(key) is not None), {})
    if not isinstance(arguments, str):
        return without_nulls(arguments)
    try:  # OpenAI's are JSON within JSON; a model may have written what is none
        return json_of(arguments, field)
    except NoRow as found:
        if found.problem.code == "wrong_type":
            return arguments
        raise


def in_order_of_calls(turns: list[Turn], column: str) -> list[Turn]:
    """The turns, the results behind each `tool_call` in the order of its calls.

    Where a call or a result has an id, each call needs exactly one result of its id. Without any, there is a result a call: by the
    names that results have, where these are the calls' names, each once; else in order. One `observation` may answer all calls.

    Raises:
        NoRow: an id or a result is missing, unknown, or stands twice.
    """
    ordered: list[Turn] = []
    place = 0
    while place < len(turns):
        ordered.append(turns[place])
        place += 1
        if ordered[-1].role != "tool_call":
            continue
        first = place
        while place < len(turns) and turns[place].role == "tool":
            place += 1
        if place > first:  # the last turn may be a call that nothing answers yet
            ordered += _matched(ordered[-1], turns[first:place], column)
    return ordered


def _matched(call: Turn, results: list[Turn], column: str) -> list[Turn]:
    of_results = [result.ids[0] if result.ids else None for result in results]
    if not any((*call.ids, *of_results)):
        return _without_ids(call, results, column)
    where = f"{column}.tool_call_id"
    if None in call.ids:
        raise NoRow("tool_call_id", f"{column}.tool_calls.id", "a call without an id, among ids of calls or results")
    if len(set(call.ids)) < len(call.ids):
        raise NoRow("tool_call_id", f"{column}.tool_calls.id", f"two calls of one id: {', '.join(map(str, call.ids))}")
    by_id: dict[str | None, Turn] = {}
    for own, result in zip(of_results, results, strict=True):
        if own is None:
            raise NoRow("tool_call_id", where, "a result without an id, where calls have ids")
        if own not in call.ids:
            raise NoRow(
                "tool_call_id", where, f"a result of {own}; the calls before it are {', '.join(map(str, call.ids))}"
            )
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
    names = [made["name"] for made in loads(call.text)] if len(results) > 1 else []
    return [by_name[name] for name in names] if len(by_name) == len(names) and by_name.keys() == set(names) else results
