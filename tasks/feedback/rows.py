"""Judged answers → records of the shape `row`. Pure.

A correction has the correction as `output` and the served answer as `rejected`: it serves supervised training and preference
pairs. A rating has the served answer as `output`, and `desirable`. Earlier answers of a dialogue are context: nobody judged them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.feedback.judged import JudgedAnswer
from tasks.feedback.records import Answer
from tasks.feedback.select import Judgement, Selection, judgements
from tasks.prompts.request_fields import RequestError, request_fields
from tasks.records.origin import SERVED, SERVED_ANSWER
from tasks.records.row import NO_TEXT
from tasks.records.shape_fields import NoRow
from tasks.records.shapes import Problem, to_fields
from tasks.records.tool_calls import calls_of
from tasks.records.turns import ANSWERS
from tasks.runtime.files import canonical_json


@dataclass
class ServedRows:
    records: list[dict[str, Any]] = field(default_factory=list)
    """In the order in which their answers were first judged."""
    withdrawn: set[str] = field(default_factory=set)
    """Ids of answers whose feedback makes no row now; an earlier one may have."""
    over_cap: Counter[str] = field(default_factory=Counter)
    """User → answers on which their feedback does not count."""
    omitted: Counter[str] = field(default_factory=Counter)
    """Why texts of judged answers were not kept → answers."""


def served_rows(answers: Iterable[JudgedAnswer], selection: Selection) -> ServedRows:
    """The records of a source.

    Args:
        answers: in the order in which they were first judged.
    """
    rows = ServedRows()
    for judgement in judgements(answers, selection, rows.over_cap):
        judged = judgement.judged
        if judged.response.omitted:
            rows.omitted[judged.response.omitted] += 1
        elif judgement.deciding:
            rows.records.append(_record(judgement, selection))
            continue
        rows.withdrawn.add(judged.id)
    return rows


def _record(judgement: Judgement, selection: Selection) -> dict[str, Any]:
    fields = _of_messages(judgement) if selection.free_prompts else _of_family(judgement)
    return {**fields, SERVED_ANSWER: judgement.judged.id, SERVED: _origin(judgement)}


def _origin(judgement: Judgement) -> dict[str, Any]:
    response, deciding = judgement.judged.response, judgement.deciding
    when = datetime.fromtimestamp(max(item.when for item in deciding), UTC)
    return {
        "response": response.id,
        "model": response.model,
        "version": response.version,
        "weights": response.weights,
        "engine": response.engine,
        "who": sorted({item.user for item in deciding}),
        "source": sorted({item.source for item in deciding}),
        "when": when.isoformat(timespec="seconds"),
        "is_shadow": response.is_shadow,
        "comments": judgement.comments,
    }


def _of_family(judgement: Judgement) -> dict[str, Any]:
    """The fields of an answer to the fields of a task. Fields that are no request's are kept, and refused by the contract."""
    response = judgement.judged.response
    try:
        fields = request_fields(response.prompt["fields"])
    except (RequestError, KeyError, TypeError):
        return {"request": response.prompt}
    history = json.loads(fields["history"])
    if "input" not in fields:  # the last turn of its history was answered
        fields["input"] = history.pop()[1]
    untrained = [index - len(history) - 2 for index, turn in enumerate(history) if turn[0] in ANSWERS]
    fields |= {"history": canonical_json(history), "untrained": canonical_json(untrained) if untrained else ""}
    return _filled({**fields, "output": "", **_target(judgement, _value_text(judgement.judged.answer))})


def _of_messages(judgement: Judgement) -> dict[str, Any]:
    """The fields of an answer to chat messages."""
    response, answer = judgement.judged.response, judgement.judged.answer
    served = _turn(answer)
    corrected = {"role": "assistant", "content": judgement.correction}
    record: dict[str, Any] = {"tools": response.prompt.get("tools") or None}
    messages = [_context(message) for message in response.prompt["messages"]]
    if not judgement.correction:
        shape, target = "kto", {"messages": [*messages, served], "label": bool(judgement.is_good)}
    elif _is_same(judgement.correction, answer.text) and not answer.calls:
        shape, target = "messages", {"messages": [*messages, corrected]}
    else:
        shape, target = "preference", {"messages": messages, "chosen": corrected, "rejected": served}
    fields = to_fields(record | target, shape, {})
    return {"request": response.prompt} if isinstance(fields, Problem) else _filled(fields)


def _target(judgement: Judgement, served: str) -> dict[str, str]:
    if judgement.correction:
        is_same = _is_same(judgement.correction, served)
        return {"output": judgement.correction} | ({} if is_same else {"rejected": served})
    return {"output": served, "desirable": "true" if judgement.is_good else "false"}


def _is_same(correction: str, served: str) -> bool:
    return correction.strip() == served.strip()


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a row that are not empty; input and output always."""
    named = {name: fields.get(name, empty) for name, empty in NO_TEXT.items()}
    return {name: text for name, text in named.items() if text != NO_TEXT[name] or name in ("input", "output")}


def _value_text(answer: Answer) -> str:
    """The answer in the form of a row's output: what evaluation reads in it, or else the raw text."""
    if answer.calls:
        return _calls_text(answer)
    if answer.value is None:
        return answer.text
    return answer.value if isinstance(answer.value, str) else json.dumps(answer.value, ensure_ascii=False)


def _calls_text(answer: Answer) -> str:
    try:
        return calls_of([dict(call) for call in answer.calls], "calls").text
    except NoRow:
        return answer.text


def _turn(answer: Answer) -> dict[str, Any]:
    if answer.calls:
        return {"role": "assistant", "content": None, "tool_calls": [{"function": dict(call)} for call in answer.calls]}
    return {"role": "assistant", "content": answer.text}


def _context(message: Any) -> Any:
    """A turn of the request: an earlier answer is not trained."""
    is_answer = isinstance(message, dict) and message.get("role") == "assistant"
    return {**message, "weight": 0} if is_answer else message
