"""An error in the contract as text: the line, what is wrong, and the nearest valid name. Pure."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from tasks.runtime.base_settings import Settings
from tasks.validate.contract.contract import FamilyContract, Script
from tasks.validate.contract.custom_rules import CustomRule

ContractError = tuple[Path, int, str]
"""File, line (from 1) and message."""


def describe(error: Any, document: Any, prefix: list[Any]) -> tuple[int, str]:
    """A pydantic error as (line, message).

    Args:
        error: of `ValidationError.errors()`.
        prefix: the path in the document that the error's own location starts from.
    """
    location = _as_written([*prefix, *error["loc"]], document)
    key = ".".join(str(part) for part in location)
    line = line_of(document, location)
    if error["type"] == "extra_forbidden":
        return line, f"`{key}` is not a rule; {nearest(str(location[-1]), list(_model_at(location).model_fields))}"
    if error["type"] == "missing":
        return line, f"`{key}` is missing; it is required"
    allowed = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "value_error":
        return line, f"`{key}`: {allowed}"
    value = json.dumps(error["input"], ensure_ascii=False, default=str)
    return line, f"`{key}` is {value[:80]}, but should be {allowed}"


def _as_written(location: list[Any], document: Any) -> list[Any]:
    """The location in the file: validation sees a family's rules after those of `all`, the file holds them apart."""
    if len(location) < 4 or location[0] != "families" or location[2] != "rules" or not isinstance(location[3], int):
        return location
    try:
        own = document["families"][location[1]]["rules"]
        common = document.get("all", {}).get("rules", [])
    except (KeyError, TypeError, AttributeError):
        return location
    replaced = {rule.get("name") for rule in own}
    before = sum(rule.get("name") not in replaced for rule in common)
    return [*location[:3], max(location[3] - before, 0), *location[4:]]


def _model_at(location: list[Any]) -> type[Settings]:
    if "scripts" in location[1:]:
        return Script
    return CustomRule if "rules" in location[1:] else FamilyContract


def nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"did you mean `{near[0]}`?" if near else f"valid here: {', '.join(known)}"


def line_of(document: Any, location: list[Any]) -> int:
    """The line (from 1) of the deepest part of `location` that the document has."""
    line = 1
    for part in location:
        try:
            line = document.lc.data[part][0] + 1
            document = document[part]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
    return line
