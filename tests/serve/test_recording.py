"""Settings under which the ratings of a canary cannot decide are reported before they matter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows.preflight.project import SECTIONS, Project
from flows.preflight.serve_check import records
from tasks.config import parse_config


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, ""),
        ({"retention": {"served_days": 14}}, ""),
        ({"retention": {"served_days": 7}}, "records are kept for 7 days, and a canary takes up to 14"),
        ({"serve": {"canary": {"days": 100}}}, "records are kept for 90 days, and a canary takes up to 100"),
        ({"serve": {"record": {"is_on": False}}}, ""),
        ({"serve": {"record": {"is_on": False}}, "promote": {"approval": "canary"}}, "nothing is recorded"),
    ],
)
def test_a_check_warns_of_ratings_that_are_lost_before_a_canary_ends(sections: dict[str, Any], words: str) -> None:
    document = {name: {} for name in ("curate", "render", "finetune", "evaluate", "gate", "promote", "validate")}
    document |= {"base": {"model": "gpt2"}, "ingest": {"sources": []}, "register": {"model_name": "tiny"}, **sections}
    problems = list(records(Project(json.loads(json.dumps(document)), parse_config(document), SECTIONS)))
    assert [problem.severity for problem in problems] == (["warning"] if words else [])
    assert words in "".join(problem.what for problem in problems)
