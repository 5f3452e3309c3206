"""Slices: one definition for the gate, the report and `strop compare`; conditions of one's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.dataset import row_texts
from tasks.errors import ConfigError
from tasks.evaluate.predictions import PREDICTIONS_SCHEMA, TEST_FIELDS
from tasks.expression.expression import COLUMNS, TEXT_COLUMNS
from tasks.gate.check import Check
from tasks.gate.pairing import PairedScores, pair_scores
from tasks.gate.policy import decide
from tasks.gate.settings import GateSettings, SliceName
from tasks.lineage.compare import language_of, select
from tasks.scoring.paired_rows import OF_A_ROW
from tasks.scoring.slices import LANGUAGE, SLICES, shown_value, slices_by
from tasks.state.round import Round

ROWS = 120
LONG = "language == 'zh' and length(target) > 20"


def row(number: int) -> dict[str, str]:
    """Every second row is Chinese, every third answer is long, the prompts have 1 to 12 words."""
    chinese = number % 2 == 1
    return {
        "row_id": f"r{number:03}", "batch": "old" if number < 40 else "fresh", "source": "forum", "use": "train", "family": "qa",
        "kind": "qa", "language": "zh" if chinese else "en", "prompt": ("问" if chinese else "why ") * (1 + number % 12),
        "target": ("答" if chinese else "so ") * (30 if number % 3 == 0 else 2),
    }  # fmt: skip


TABLE = pa.Table.from_pylist([row(number) for number in range(ROWS)])


def scores(worse: Any = (), table: pa.Table = TABLE) -> PairedScores:
    """The candidate answers a fifth of the rows better, and `worse` rows wrongly."""
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in OF_A_ROW}
    numbers = np.arange(table.num_rows)
    reference = np.where(numbers % 5 == 0, 0.0, 1.0)
    candidate = np.where(np.isin(numbers, list(worse)), 0.0, 1.0)
    return PairedScores(
        columns["family"].astype(np.str_), reference, candidate, columns["batch"].astype(np.str_), columns
    )


def slices(of: PairedScores, *conditions: Any, **settings: Any) -> dict[str, Check]:
    gate = GateSettings.model_validate({"bootstrap_samples": 500, "min_rows": 10, "slices": conditions, **settings})
    verdict = decide(of, gate, Round(None, 1, 0))
    return {check.name: check for check in verdict.checks if check.name.startswith("slices/")}


def test_a_condition_of_the_policy_is_a_slice_that_can_refuse() -> None:
    long_chinese = [number for number in range(ROWS) if row(number)["language"] == "zh" and number % 3 == 0]
    condition = {"name": "long_chinese", "where": LONG}
    (check,) = slices(scores(worse=long_chinese), condition).values()
    assert (check.name, check.passed, check.rows, check.where) == ("slices/qa/long_chinese", False, 20, LONG)
    assert "worse by more than 0.050" in check.detail
    assert slices(scores(), condition)["slices/qa/long_chinese"].passed


@pytest.mark.parametrize(
    "where", [LONG, "segments(prompt) >= 6", "batch in ['old'] or contains(target, '答')", "matches(prompt, '^why')"]
)
def test_a_condition_means_the_same_in_the_gate_and_in_compare(where: str) -> None:
    answers = [{**row(number), "prediction": "x", "score": 1.0} for number in range(ROWS)]
    compared = select(pa.Table.from_pylist(answers), where, "qa")
    (check,) = slices(scores(), {"name": "mine", "where": where}).values()
    assert check.rows == compared.num_rows > 0


@pytest.mark.parametrize("column", get_args(SliceName))
def test_the_condition_of_a_column_s_slice_selects_its_rows(column: str) -> None:
    columns = scores().of_a_row() | {"kind": np.array(["classification", "qa"] * 60, dtype=object)}
    columns["target"] = np.array(["sport ", "x", 'it\'s \\ "世界"', "x"] * 30, dtype=object)
    table = pa.table({name: pa.array(values.tolist(), pa.string()) for name, values in columns.items()})
    parts = slices_by(column, columns, ["old"])
    assert (len(parts) > 1) is (column != "source")
    for part in parts:
        assert part.where is not None
        assert select(table, part.where, "").num_rows == part.rows.sum()


def test_a_condition_names_columns_of_the_predictions_that_no_model_influences() -> None:
    predictions = language_of(PREDICTIONS_SCHEMA).columns
    assert set(OF_A_ROW) == set(TEST_FIELDS)
    assert {name: predictions[name] for name in (*OF_A_ROW, *TEXT_COLUMNS)} == LANGUAGE.columns
    assert set(COLUMNS) <= set(LANGUAGE.columns), "every condition of a contract is one of the gate"
    assert set(SLICES) == set(get_args(SliceName))


def test_a_condition_may_name_the_contract_s_fields_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"row_id": "r003", "instruction": "翻译", "output": "长" * 300}
    rows = pa.Table.from_pylist([dict.fromkeys(TEXT_COLUMNS, "") | fields])
    monkeypatch.setattr(row_texts, "read_dataset", lambda ids: rows)
    answers = pa.Table.from_pylist([{**row(number), "score": 1.0} for number in range(6)])
    where = "length(output) > 200 and instruction == '翻译'"
    assert select(answers, where, "")["row_id"].to_pylist() == ["r003"]
    both = pair_scores(answers, row_texts.with_row_texts(answers, ["output", "instruction"]))
    (check,) = slices(both, {"name": "mine", "where": where}).values()
    assert (check.name, check.rows) == ("slices/qa/mine", 1)


INVALID = [
    ("score < first_score", "`score` is not a column; there are row_id, batch"),
    ("length(answer) > 200", "`answer` is not a column"),
    ("language = 'zh'", "not an expression"),
    ("length(target)", "it should be true or false"),
]


@pytest.mark.parametrize(("where", "message"), INVALID)
def test_an_invalid_condition_is_an_error_that_names_it(where: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"gate\.slices, mine") as caught:
        slices(scores(), {"name": "mine", "where": where})
    assert message in str(caught.value)


def test_an_empty_slice_and_one_with_few_rows_are_reported_and_block_nothing() -> None:
    few = "row_id in ['r001', 'r003']"
    checks = slices(scores(worse=[1, 3]), {"name": "none", "where": "language == 'fr'"}, {"name": "few", "where": few})
    none, two = checks["slices/none"], checks["slices/qa/few"]
    assert (none.passed, none.rows, none.number) == (None, 0, None)
    assert none.detail == "no test row fulfils `language == 'fr'`"
    assert (two.passed, two.rows) == (None, 2)
    assert two.detail.endswith("2 test rows, 10 are needed to count")


def test_without_any_row_every_condition_is_reported_as_empty() -> None:
    checks = slices(scores(table=TABLE.slice(0, 0)), "length", {"name": "mine", "where": LONG})
    assert [(check.name, check.passed, check.rows) for check in checks.values()] == [("slices/mine", None, 0)]


def test_a_family_of_one_class_has_no_slices_of_labels() -> None:
    columns = {"kind": np.full(4, "classification"), "target": np.array(["体育"] * 4, dtype=object)}
    assert slices_by("label", columns, []) == []
    assert [part.value for part in slices_by("label", {**columns, "target": np.array(["a", "b"] * 2)}, [])] == [
        "a",
        "b",
    ]


def test_long_values_that_begin_alike_have_different_names() -> None:
    begin = "问题的来源是一个很长的名字" * 4
    sources = np.array([begin + "甲", begin + "乙"] * 60, dtype=object)
    of = scores()
    names = list(slices(replace(of, columns={**of.columns, "source": sources}), "source"))
    assert len(set(names)) == 2
    assert all(name.startswith(f"slices/qa/source={begin[:40]}… ") for name in names)
    assert shown_value("a  b") != shown_value("a b") == "a b"


def test_names_of_slices_are_unique_and_simple() -> None:
    with pytest.raises(ValidationError, match="`long` is the name of two slices"):
        GateSettings.model_validate({"slices": ({"name": "long", "where": LONG},) * 2})
    with pytest.raises(ValidationError, match="should match pattern"):
        GateSettings.model_validate({"slices": ({"name": "a/b", "where": LONG},)})
