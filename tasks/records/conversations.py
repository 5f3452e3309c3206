"""Turns of a dialogue, as ShareGPT and OpenAI write them → a row's system, history, input, output, tools and images. Pure.

Where tools are called there are the roles `tool_call` (text: JSON list of {arguments, name}) and `tool` (what the tool answered).
The last turn is the output, the one before it the input: a user's, or a tool's answer, where the last turn of the history is a
`tool_call`. Answers behind the last that is to be trained (`weight: 0`) are left out: nothing is learnt there, nor judged.
"""

from __future__ import annotations

import re
from typing import Any

from tasks.records.ordered_json import dumps, without_nulls
from tasks.records.shape_fields import Columns, Fields, NoRow, json_of, list_of, optional_text
from tasks.records.tool_calls import in_order_of_calls
from tasks.records.turn import Turn
from tasks.records.turns import ANSWERS, flag_of, hash_of, read_turn
from tasks.runtime.files import canonical_json

MOST_TURNS = 1000
UNTRAINED = "nothing_to_learn"
"""Why a dialogue is no row whose answers are all marked as not to be trained."""
_LETTERS = {"user": "u", "assistant": "a", "tool_call": "c", "tool": "t", "system": "s"}
_ORDER = re.compile("(?:u(?:a?ct+)*a)*u(?:a?ct+)*[ac]")
"""The user speaks and the assistant answers; in between it may call tools, each call is answered, and it may say why."""


def turns_of(value: Any, columns: Columns, column: str, mask: Any = None) -> list[Turn]:
    """A list of turns.

    Args:
        mask: whether each of them is trained, or each that the assistant says; None: as the turns say.

    Raises:
        NoRow: it is no list, or one of them is no turn.
    """
    value = list_of(value, column)
    if not isinstance(value, list):
        raise NoRow("wrong_type", column, value)
    if len(value) > MOST_TURNS:
        raise NoRow("role_order", column, f"{len(value):,} turns; at most {MOST_TURNS:,} are a dialogue")
    read = [read_turn(turn, columns, column) for turn in value]
    if mask is not None and mask != "":  # an empty cell of CSV
        read = _masked(read, list_of(mask, "loss_mask"))
    return [turn for turns in read for turn in turns]


def are_turns(text: str, columns: Columns) -> bool:
    """Is a text JSON of a turn or a list of turns, as CSV and databases hold them?"""
    if text.lstrip()[:1] not in ("[", "{"):
        return False
    try:
        value = json_of(text, "")
    except NoRow:
        return False
    pairs = (("role", "content"), ("from", "value"))
    named = [{columns.get(name, name) for name in pair} for pair in pairs]
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(isinstance(turn, dict) and any(pair <= turn.keys() for pair in named) for turn in turns)


def _masked(read: list[list[Turn]], mask: Any) -> list[list[Turn]]:
    """The turns, those left untrained that a list beside them says."""
    answers = [place for place, turns in enumerate(read) if turns[-1].role in ANSWERS]
    if not isinstance(mask, list) or len(mask) not in (len(read), len(answers)):
        of = f"; the dialogue has {len(read)} turns, {len(answers)} of them the assistant's"
        raise NoRow("wrong_type", "loss_mask", f"{mask if not isinstance(mask, list) else f'{len(mask)} flags'}{of}")
    places = range(len(read)) if len(mask) == len(read) else answers
    flags = dict(zip(places, (flag_of(each, "loss_mask") for each in mask), strict=True))
    for place, flag in flags.items():
        if flag and place not in answers:
            raise NoRow(
                "wrong_type",
                "loss_mask",
                f"turn {place + 1} of the role {read[place][-1].role}: answers alone are trained",
            )
    return [
        [turn._replace(is_trained=turn.is_trained and flags.get(place, True)) for turn in turns]
        for place, turns in enumerate(read)
    ]


def as_fields(
    turns: list[Turn],
    record: dict[str, Any],
    columns: Columns,
    column: str,
    has_system: bool = True,
    must_end: bool = False,
) -> Fields:
    """The fields of a whole dialogue, which ends in what is to be learnt.

    Args:
        has_system: may the record say its system text in a column of its own?
        must_end: must the last answer be trained? Else the last that is trained is the row's.

    Raises:
        NoRow: its turns are in no order that we know, none of its answers is trained, or an image is not there.
    """
    system = ""
    if turns and turns[0].role == "system":
        system, turns = turns[0].text, turns[1:]
    if has_system and (own := optional_text(record, columns, "system")):
        if system.strip() and own.strip() != system.strip():
            raise NoRow("wrong_type", columns.get("system", "system"), "a system text beside another in the turns")
        system = system or own
    roles = [turn.role for turn in turns]
    if not _ORDER.fullmatch("".join(_LETTERS[who] for who in roles)):
        raise NoRow("role_order", column, " → ".join(roles) or "no turns")
    is_plain = all(turn.is_plain for turn in turns)
    if not is_plain:
        turns = _up_to_trained(in_order_of_calls(turns, column), column, must_end)
    fields = {
        "system": system,
        "history": canonical_json([turn[:2] for turn in turns[:-2]]),
        "input": turns[-2].text,
        "output": turns[-1].text,
        "tools": _tools(record, columns),
        "images": _images(record, columns, [] if is_plain else [image for turn in turns for image in turn.images]),
    }
    return fields if is_plain else fields | _beside(turns)


def _beside(turns: list[Turn]) -> Fields:
    """What is stored beside the turns: which answers are not trained, and what was thought before them."""
    fields = {}
    places = [(place - len(turns), turn) for place, turn in enumerate(turns)]
    if untrained := [place for place, turn in places if turn.role in ANSWERS and not turn.is_trained]:
        fields["untrained"] = canonical_json(untrained)
    if thoughts := [[place, turn.thought] for place, turn in places if turn.thought]:
        fields["thoughts"] = canonical_json(thoughts)
    return fields


def _up_to_trained(turns: list[Turn], column: str, must_end: bool) -> list[Turn]:
    """The turns up to the last answer that is trained."""
    trained = [place for place, turn in enumerate(turns) if turn.role in ANSWERS and turn.is_trained]
    if not trained or (must_end and trained[-1] < len(turns) - 1):
        what = "none of its answers is to be trained" if not trained else "its last answer is not to be trained"
        raise NoRow(UNTRAINED, column, what)
    return turns[: trained[-1] + 1]


def _tools(record: dict[str, Any], columns: Columns) -> str:
    """The tools that may be called, as JSON, in the order of their keys; "" for none."""
    column = columns.get("tools", "tools")
    given = record.get(column)
    if given is None or given == "":
        return ""
    tools = list_of(given, column) if isinstance(given, str) else without_nulls(given)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise NoRow("wrong_type", column, given)
    return dumps(tools) if tools else ""


def _images(record: dict[str, Any], columns: Columns, within: list[str]) -> str:
    """JSON list of the images' hashes, in order; ingestion kept the images, and put their hashes into the record.

    Args:
        within: of those that stand in the turns.
    """
    column = columns.get("images", "images")
    given = record.get(column)
    if not given:
        return canonical_json(within)
    if not isinstance(given, list):
        raise NoRow("wrong_type", column, given)
    if within:
        raise NoRow("wrong_type", column, "images in the turns, and others beside them: their order is not known")
    return canonical_json([hash_of(image, column) for image in given])
