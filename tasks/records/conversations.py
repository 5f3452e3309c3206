"""Turns of a dialogue, as ShareGPT and OpenAI write them → a row's system, history, input, output, tools and images. Pure.

Calls of tools are turns of the role `tool_call` (text: JSON list of {arguments, name}), results those of the role `tool`.
The last turn is the output, the one before it the input: of the user, or a tool's result if the last turn of the history is a
`tool_call`. Turns after the last trained answer (`weight: 0`) are removed: they are neither trained nor evaluated.
"""

from __future__ import annotations

import re
from typing import Any

from tasks.records.ordered_json import dumps, without_nulls
from tasks.records.shape_fields import (
    Columns,
    Fields,
    NoRow,
    Turn,
    json_of,
    json_value,
    list_of,
    optional_text,
    wrong_type,
)
from tasks.records.tool_calls import in_order_of_calls
from tasks.records.turn_content import hash_of
from tasks.records.turns import ANSWERS, flag_of, read_turn
from tasks.runtime.files import canonical_json

MOST_TURNS = 1000
UNTRAINED = "nothing_to_learn"
"""Reason code of a dialogue in which no answer is trained."""
_LETTERS = {"user": "u", "assistant": "a", "tool_call": "c", "tool": "t", "system": "s"}
_ORDER = re.compile("(?:u(?:a?ct+)*a)*u(?:a?ct+)*[ac]")
"""User and assistant alternate; between them the assistant may call tools, with a text, and each call has a result."""


def turns_of(value: Any, columns: Columns, column: str, mask: Any = None) -> list[Turn]:
    """A list of turns.

    Args:
        mask: whether each turn, or each turn of the assistant, is trained; None: by the fields of the turns.

    Raises:
        NoRow: it is not a list, or an element is not a turn.
    """
    value = list_of(value, column)
    if len(value) > MOST_TURNS:
        raise NoRow("role_order", column, f"{len(value):,} turns; at most {MOST_TURNS:,} are a dialogue")
    read = [read_turn(turn, columns, column) for turn in value]
    if mask is not None and mask != "":  # an empty cell of CSV
        read = _masked(read, json_value(mask, "loss_mask"))
    return [turn for turns in read for turn in turns]


def are_turns(text: str, columns: Columns) -> bool:
    """Whether a text is JSON of a turn or a list of turns, as in CSV and databases."""
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
    """The turns, trained as the list `loss_mask` of the record says."""
    answers = [index for index, turns in enumerate(read) if turns[-1].role in ANSWERS]
    if not isinstance(mask, list) or len(mask) not in (len(read), len(answers)):
        of = f"; the dialogue has {len(read)} turns, {len(answers)} of them the assistant's"
        raise wrong_type("loss_mask", f"{mask if not isinstance(mask, list) else f'{len(mask)} flags'}{of}")
    indices = range(len(read)) if len(mask) == len(read) else answers
    flags = dict(zip(indices, (flag_of(flag, "loss_mask") for flag in mask), strict=True))
    for index, flag in flags.items():
        if flag and index not in answers:
            role = read[index][-1].role
            raise wrong_type("loss_mask", f"turn {index + 1} of the role {role}: answers alone are trained")
    return [
        [turn._replace(is_trained=turn.is_trained and flags.get(index, True)) for turn in turns]
        for index, turns in enumerate(read)
    ]


def as_fields(
    turns: list[Turn],
    record: dict[str, Any],
    columns: Columns,
    column: str,
    has_system: bool = True,
    must_end: bool = False,
) -> Fields:
    """The fields of a whole dialogue; its last turn is the target.

    Args:
        has_system: whether the record may have its system text in a column of its own.
        must_end: whether the last answer must be trained; else the row ends in the last trained answer.

    Raises:
        NoRow: the order of its turns is invalid, none of its answers is trained, or an image is missing.
    """
    system = ""
    if turns and turns[0].role == "system":
        system, turns = turns[0].text, turns[1:]
    if has_system and (own := optional_text(record, columns, "system")):
        if system.strip() and own.strip() != system.strip():
            raise wrong_type(columns.get("system", "system"), "a system text beside another in the turns")
        system = system or own
    roles = [turn.role for turn in turns]
    if not _ORDER.fullmatch("".join(_LETTERS[role] for role in roles)):
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
    return fields if is_plain else fields | _marks_of(turns)


def _marks_of(turns: list[Turn]) -> Fields:
    """The fields about turns: the answers that are not trained, and the thoughts before answers."""
    fields = {}
    numbered = [(index - len(turns), turn) for index, turn in enumerate(turns)]
    if untrained := [index for index, turn in numbered if turn.role in ANSWERS and not turn.is_trained]:
        fields["untrained"] = canonical_json(untrained)
    if thoughts := [[index, turn.thought] for index, turn in numbered if turn.thought]:
        fields["thoughts"] = canonical_json(thoughts)
    return fields


def _up_to_trained(turns: list[Turn], column: str, must_end: bool) -> list[Turn]:
    """The turns up to the last trained answer."""
    trained = [index for index, turn in enumerate(turns) if turn.role in ANSWERS and turn.is_trained]
    if not trained or (must_end and trained[-1] < len(turns) - 1):
        what = "none of its answers is to be trained" if not trained else "its last answer is not to be trained"
        raise NoRow(UNTRAINED, column, what)
    return turns[: trained[-1] + 1]


def _tools(record: dict[str, Any], columns: Columns) -> str:
    """The tools that may be called, as JSON with their own order of keys; "" for none."""
    column = columns.get("tools", "tools")
    value = record.get(column)
    if value is None or value == "":
        return ""
    tools = json_value(value, column) if isinstance(value, str) else without_nulls(value)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise wrong_type(column, value)
    return dumps(tools) if tools else ""


def _images(record: dict[str, Any], columns: Columns, within: list[str]) -> str:
    """JSON list of the images' hashes (those in the turns: `within`), in order; ingestion put them into the record."""
    column = columns.get("images", "images")
    images = record.get(column)
    if not images:
        return canonical_json(within)
    if not isinstance(images, list):
        raise wrong_type(column, images)
    if within:
        raise wrong_type(column, "images in the turns, and others beside them: their order is not known")
    return canonical_json([hash_of(image, column) for image in images])
