"""People's preferences from MLflow: traces with a question and two answers, and the feedback which answer is better. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tasks.evaluate.judge.answer import WINNERS
from tasks.state.erased_traces import trace_of

TEXTS = ("question", "answer_a", "answer_b", "target", "family", "row_id")
REQUIRED = TEXTS[:3]
TRACE = "trace"


def preference_of(trace: Mapping[str, Any], feedback: str) -> dict[str, str] | None:
    """The line of a judged trace; None if it has no such pair or no such feedback.

    Args:
        trace: as `tasks.tracking.traces.judged_traces` yields it, with content. The texts may be in its request or its response, at
            any depth, and those of the least count: `@mlflow.trace` nests them under the names of a function's arguments.
        feedback: the name of the feedback, whose value is A, B or tie.
    """
    texts: dict[str, str] = {}
    for part in ("request", "response"):
        for name, value in _texts_in(_parsed(trace[part])):
            if name in TEXTS:
                texts.setdefault(name, value)
    given = str(trace["values"].get(feedback)).strip().lower()
    preferred = next((winner for winner in WINNERS if winner.lower() == given), None)
    if preferred is None or any(name not in texts for name in REQUIRED):
        return None
    return {name: _valid(texts[name]) for name in TEXTS if name in texts} | {
        "preferred": preferred,
        TRACE: trace["trace_id"],
    }


def with_imported(
    lines: Sequence[bytes], imported: Sequence[dict[str, str]], erased: Collection[str] = ()
) -> tuple[list[bytes], int]:
    """The lines of the file after an import, and the number of imported ones that are new or changed.

    Lines that people wrote stay; a line of an imported trace is replaced where it is.

    Args:
        erased: ids of rows and of traces whose text must not return.
    """
    new = {line[TRACE]: _line(line) for line in imported if not {line.get("row_id"), line[TRACE]} & set(erased)}
    result, before = [], set(lines)
    for line in lines:
        trace = trace_of(line)
        result.append(line if trace not in new else new.pop(trace))
    result += new.values()
    return result, sum(line not in before for line in result)


def _valid(text: str) -> str:
    """The text in valid UTF-8: JavaScript cuts emoji in half."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _line(preference: dict[str, str]) -> bytes:
    return json.dumps(preference, ensure_ascii=False).encode()


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return None


def _texts_in(document: Any) -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a document, those of the least depth first."""
    values = [document]
    while values:
        inner: list[Any] = []
        for value in values:
            items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for name, item in items:
                if isinstance(item, str):
                    yield str(name), item
                else:
                    inner.append(item)
        values = inner
