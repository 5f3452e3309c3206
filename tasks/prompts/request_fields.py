"""A user's fields → the fields of a request, as a row has them but without its answer. Pure.

fields = request_fields({"text": "The match ended 2:1."})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tasks.errors import StropError
from tasks.records.languages import human_turns, row_language
from tasks.records.ordered_json import dumps, without_nulls
from tasks.records.row import NO_TEXT
from tasks.records.shapes import Problem, to_fields
from tasks.runtime.files import canonical_json

ALIASES = {"text": "input", "context": "input", "question": "instruction"}
"""Names for fields that sources use; a row has `input` and `instruction`."""
TEXTS = ("instruction", "input", "system", "output", "language")
LISTS = ("history", "tools", "thoughts")
"""Fields that are JSON lists, or JSON text."""
MESSAGES = "messages"
"""A dialogue in OpenAI's form, in place of history, input and system; its last turn is the user's, or a tool's result."""
NAMES = (*ALIASES, *TEXTS, *LISTS, MESSAGES)
_IGNORED = ("untrained", "images", "rejected", "desirable", "tests")
_ANSWER = "strop_answer"


class RequestError(StropError):
    """A request that cannot be answered; `code` is stable: `unknown_field`, `prompt_too_long`, ..."""

    def __init__(self, code: str, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.code = code
        super().__init__(what, where=where, fix=fix)

    def at(self, where: str) -> RequestError:
        """The same error with the place of the request."""
        return RequestError(self.code, self.what, where=where, fix=self.fix)


def request_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request: `system`, `history`, `instruction`, `tools`, `thoughts` and, unless the last turn of its history is
    to be answered, `input`; also `output` and `language` where they are given.

    Raises:
        RequestError: a name is unknown, or a value has another type.
    """
    if unknown := sorted(set(given) - set(NAMES)):
        known = f"Known are {', '.join(NAMES)}"
        raise RequestError("unknown_field", f"unknown field: {', '.join(unknown)}", fix=known)
    named: dict[str, Any] = {}
    for name, value in given.items():
        if ALIASES.get(name, name) in named:
            raise RequestError("invalid_field", f"`{name}` is given twice, as `{ALIASES.get(name, name)}` too")
        named[ALIASES.get(name, name)] = value
    if MESSAGES in named:
        named = _of_messages(named)
    fields = {name: _text(name, named.get(name, "")) for name in TEXTS if name in named or name in NO_TEXT}
    fields |= {name: _list(name, named.get(name) or "") for name in LISTS}
    fields["history"] = fields["history"] or "[]"
    if "input" not in named and not fields["instruction"] and fields["history"] != "[]":
        del fields["input"]
    if "output" not in named:
        del fields["output"]
    return fields


def language_of(fields: Mapping[str, Any], default: str) -> str:
    """The language of a request: that of its human turns; the default where they have no letters. In training, the answer decides
    then."""
    shown = {"input": "", **fields, "output": ""}
    return fields.get("language") or (row_language(shown) if human_turns(shown) else default)


def _of_messages(named: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dialogue, as `ingest` reads one."""
    if others := sorted(set(named) & {"history", "input", "instruction", "system", "thoughts"}):
        raise RequestError("invalid_field", f"`{MESSAGES}` is a whole dialogue: leave out {', '.join(others)}")
    messages = _parsed(MESSAGES, named.pop(MESSAGES))
    record = {MESSAGES: [*messages, {"role": "assistant", "content": _ANSWER}], "tools": named.get("tools")}
    fields = to_fields(record, MESSAGES, {})
    if isinstance(fields, Problem):
        fix = "The last turn is the user's, or the result of a tool"
        raise RequestError("invalid_field", f"`{MESSAGES}`: {fields.code} ({str(fields.value)[:200]})", fix=fix)
    if fields["images"] != NO_TEXT["images"]:
        raise RequestError("invalid_field", f"`{MESSAGES}` has images, which no prompt has")
    kept = {name: text for name, text in fields.items() if name not in _IGNORED and name != "output" and text}
    return {"input": "", **kept, **{name: named[name] for name in ("output", "language") if name in named}}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError("invalid_field", f"`{name}` is a text, not {type(value).__name__}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise RequestError("invalid_field", f"`{name}` holds half of a surrogate pair, which no tokenizer accepts")
    return value


def _list(name: str, value: Any) -> str:
    """A field that is a list, as a row has it: JSON text."""
    if value == "":
        return ""
    items = _parsed(name, value)
    is_of_pairs = name != "tools"
    for item in items:
        is_pair = isinstance(item, list) and len(item) == 2 and isinstance(item[1], str)
        if is_pair != is_of_pairs or not isinstance(item, (list, dict)):
            what = "a list of [role, text]" if name == "history" else "a list of [turn, text]"
            raise RequestError("invalid_field", f"`{name}` is {what if is_of_pairs else 'a list of objects'}")
    if isinstance(value, str):
        return _text(name, value)
    return _text(name, dumps(without_nulls(items)) if name == "tools" else canonical_json(items))


def _parsed(name: str, value: Any) -> list[Any]:
    try:
        items = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise RequestError("invalid_field", f"`{name}` is not JSON: {error}") from error
    if not isinstance(items, list):
        raise RequestError("invalid_field", f"`{name}` is a list, not {type(items).__name__}")
    return items
