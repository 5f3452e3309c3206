"""The names of numbers that a limit of the gate may have: all that evaluate writes, and no others."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from flows.preflight.known_numbers import known_numbers, path_error
from tasks.evaluate.code.report import describe_code
from tasks.evaluate.further_tests import FurtherResult, FurtherTests
from tasks.evaluate.latency import describe_times
from tasks.evaluate.predictions import score_rows
from tasks.evaluate.probes.measures import measure_probes
from tasks.evaluate.probes.plan import plan_probes
from tasks.evaluate.probes.settings import ProbeSettings
from tasks.evaluate.report import describe_model, losses_by_family
from tasks.evaluate.settings import EvaluateSettings
from tasks.gate.number_paths import number_paths, split_path
from tasks.scoring.metrics import METRICS, answer_kinds
from tasks.state.data_drift import drift_numbers
from tasks.state.round import Round

SETTINGS = EvaluateSettings(bootstrap_samples=200, shots=2)
FAMILIES = {"新闻.en", *answer_kinds()}
TARGETS = {
    "entities": "Paris: place", "relation": "Paris; capital of; France", "json": '{"a": 1}',
    "tool_calls": '[{"name": "f", "arguments": {}}]', "code": "def f(): pass",
}  # fmt: skip


def rows_of_every_kind() -> list[dict[str, Any]]:
    """A Chinese and an English row of each kind, in a family of its own; some share a family."""
    rows = []
    for kind in answer_kinds():
        shared = "新闻.en" if kind in ("classification", "qa") else kind
        for family, language in ((kind, "en"), (kind, "zh"), (shared, "en")):
            row = {"row_id": f"r{len(rows)}", "batch": "b", "family": family, "kind": kind, "language": language}
            texts = {
                "prompt": "Who came?",
                "question": "Who came?",
                "input": "他来了。Ann came.",
                "instruction": "Who?",
            }
            rows.append(row | texts | {"prompt_ids": [1], "template": "t", "target": TARGETS.get(kind, "体育 he")})
    return rows


def measured() -> dict[str, Any]:
    """The entry of a model with every number that evaluate can measure."""
    test = rows_of_every_kind()
    rows = score_rows(test, ["体育 he, ann@example.org", "", "他 he"] * (len(test) // 3))
    coded = [row | {"execution": "passed"} for row in rows if row["kind"] == "code"]
    samples = [{"row_id": row["row_id"], "family": row["family"], "execution": "wrong"} for row in coded] * 4
    plan = plan_probes(test, {}, ProbeSettings(), lambda row, prompt: [1])
    probes = measure_probes(plan, rows, score_rows([each.row for each in plan.rows], ["he"] * len(plan.rows)), SETTINGS)
    task = {"arc": {"rows": 2, "acc": {"score": 0.5, "stderr": 0.1, "values": [0.0, 1.0]}}}
    further = FurtherResult({"anchors": rows, "shots": [row | {"shots": 2} for row in rows]}, task)
    tests = FurtherTests(SETTINGS, {"anchors": rows, "shots": rows}).describe({"candidate": further, "base": further})
    rows[0]["confidence"] = 0.5
    return {
        "valid_perplexity": 2.0,
        "valid_losses": losses_by_family([(2.0, 3)], ["qa"]),
        "size": {"bytes": 1, "parameters": 1, "total_parameters": 1},
        **describe_times([0.1], [4], 2.0),
        **describe_model(rows, SETTINGS),
        "overall": describe_model([row for row in rows if row["kind"] == "qa"], SETTINGS)["overall"],
        **probes.numbers,
        **describe_code(coded, samples, SETTINGS.model_copy(update={"code": SETTINGS.code.model_copy(update={"pass_at": (1, 2)})})),
        **tests["candidate"],
        "drift": drift_numbers(Round(None, 1, 0)),
    }  # fmt: skip


def test_every_number_that_evaluate_writes_is_known() -> None:
    entry = json.loads(json.dumps(measured()))
    assert {*entry} == {*known_numbers()}, "every topic is in the example"
    numbers = [path for path in number_paths(entry) if not path.endswith(".interval")]  # null without rows
    assert [path for path in numbers if path_error(split_path(path), FAMILIES)] == []


ERRORS = [
    ("robustnes.typos.drop", "`robustnes` is no measure of a model", "Did you mean `robustness.typos.drop`?"),
    ("bias.name.gap", "`bias` has no `name`", "Did you mean `bias.names.gap`?"),
    ("families.新闻en.score", "`families` has no `新闻en`", 'Did you mean `families."新闻.en".score`?'),
    ("grounding.law.unsupported", "`grounding` has no `law`", "There are "),
    ("families.qa.free_text.answers.distinct_3", "`families.qa.free_text.answers` has no", "answers.distinct_2`?"),
    ("families.qa.languages.zh.scor", "`families.qa.languages.zh` has no `scor`", "languages.zh.score`?"),
    ("code.code.outcomes.time_out", "has no `time_out`", "outcomes.timeout`?"),
    ("forgetting.anchors.scores", "has no `scores`", "Did you mean `forgetting.anchors.score`?"),
    ("forgetting.arc.acc.sterr", "has no `sterr`", "Did you mean `forgetting.arc.acc.stderr`?"),
    ("size", "is several numbers", "Choose one of bytes, parameters, total_parameters in it"),
    ("size.bytes.mean", "goes on after `size.bytes`, which is a number", "Did you mean `size.bytes`?"),
]


@pytest.mark.parametrize(("path", "what", "fix"), ERRORS)
def test_a_path_of_no_number_is_a_mistake_with_the_nearest_name(path: str, what: str, fix: str) -> None:
    reason = path_error(split_path(path), FAMILIES)
    assert reason is not None
    assert what in reason[0]
    assert fix in reason[1]


def test_names_that_the_settings_do_not_tell_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("forgetting.任务.f1_strict.score", "families.qa.per_class.退款.f1", "families.qa.languages.fr.score"):
        assert path_error(split_path(path), {"qa"}) is None
    assert path_error(("families", "qa", "bertscore"), {"qa"}) is not None
    added = replace(METRICS["qa"], corpus_measures=lambda answers, targets: {"bertscore": 1.0})
    monkeypatch.setitem(METRICS._entries, "mine", added)
    assert path_error(("families", "qa", "bertscore"), {"qa"}) is None, "a plugin's measure"
