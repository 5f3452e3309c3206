"""Preferences from MLflow's review become lines of the file, which stays the input of a run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.evaluate.judge.preferences import Preference
from tasks.evaluate.judge.review import preference_of, with_imported

PAIR = {"question": "谁写的？", "answer_a": "Ann", "answer_b": "Bob"}


def trace(request: Any, response: Any = None, **values: Any) -> dict[str, Any]:
    texts = {"request": json.dumps(request), "response": json.dumps(response)}
    return {"trace_id": "tr-1", "changed": 1, "values": values, **texts}


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (PAIR, None),
        ({"pair": PAIR}, "seen"),
        ({"question": "谁写的？"}, {"answer_a": "Ann", "answer_b": "Bob"}),
        ([{"arguments": PAIR}], {"question": "not the one that was asked"}),
        ({**PAIR, "history": [{"question": "an earlier one"}]}, None),
    ],
)
def test_a_pair_is_read_from_inputs_and_outputs_at_any_depth(request_: Any, response: Any) -> None:
    line = preference_of(trace(request_, response, preferred="a"), "preferred")
    assert line == {**PAIR, "preferred": "A", "trace": "tr-1"}
    assert Preference(**line).answer_b == "Bob"  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["C", True, None, "AB", ["A"]])
def test_feedback_that_names_no_answer_is_no_preference(value: Any) -> None:
    assert preference_of(trace(PAIR, preferred=value), "preferred") is None


def test_a_trace_without_two_answers_or_with_other_feedback_is_no_preference() -> None:
    assert preference_of(trace({"question": "q", "answer_a": "x"}, preferred="A"), "preferred") is None
    assert preference_of(trace(PAIR, quality="A"), "preferred") is None
    assert preference_of(trace("{", "not JSON", preferred="A"), "preferred") is None
    assert preference_of(trace(PAIR, preferred="A") | {"request": "[" * 100_000}, "preferred") is None
    assert (preference_of(trace(PAIR, quality="Tie"), "quality") or {})["preferred"] == "tie"


def test_half_an_emoji_is_written_as_its_escape() -> None:
    line = preference_of(trace({**PAIR, "question": "谁\ud83d？"}, preferred="A"), "preferred")
    assert line is not None
    assert json.loads(with_imported([], [line])[0][0])["question"] == "谁\\ud83d？"


def imported(name: str, preferred: str = "A", **fields: str) -> dict[str, str]:
    return {**PAIR, "preferred": preferred, "trace": name, **fields}


def test_an_import_keeps_lines_of_people_replaces_its_own_and_is_idempotent() -> None:
    own = b'{"question": "q", "answer_a": "a",  "answer_b": "b", "preferred": "B"}'
    lines, changed = with_imported([own], [imported("tr-1"), imported("tr-2", row_id="r2")])
    assert (lines[0], len(lines), changed) == (own, 3, 2)
    assert json.loads(lines[1])["question"] == "谁写的？"
    again, changed = with_imported(lines, [imported("tr-1", "B"), imported("tr-2", row_id="r2")])
    assert (again[0], again[2], changed) == (own, lines[2], 1)
    assert json.loads(again[1])["preferred"] == "B"
    assert with_imported(again, [imported("tr-1", "B")]) == (again, 0)


def test_an_import_does_not_bring_back_the_text_of_an_erased_row() -> None:
    assert with_imported([], [imported("tr-1", row_id="r1"), imported("tr-2")], {"r1"})[1] == 1
