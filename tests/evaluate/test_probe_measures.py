"""Which rows the probes change, always the same ones, and the numbers of metrics.json that their answers give."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tasks.evaluate.predictions import score_rows
from tasks.evaluate.probes.lines import probe_lines
from tasks.evaluate.probes.measures import PROBES_SCHEMA, measure_probes
from tasks.evaluate.probes.plan import Plan, plan_probes, prompt_encoder
from tasks.evaluate.probes.settings import ProbeSettings
from tasks.evaluate.settings import EvaluateSettings

SETTINGS = EvaluateSettings(bootstrap_samples=200)


def toy_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        is_chinese = i % 2 == 1
        text = f"他在第{i}天说天气很好。" if is_chinese else f"He reported lovely weather on day {i}."
        question = f"{'这段文字的主题是什么' if is_chinese else 'Name the topic'}\n\n{text}"
        fixed = {"row_id": f"{i:04x}", "batch": "b", "family": "topic", "kind": "classification", "target": "sport"}
        texts = {"question": question, "prompt": f"<u>{question}<a>", "input": text, "instruction": "", "template": "t"}
        rows.append({**fixed, **texts, "language": "zh" if is_chinese else "en", "prompt_ids": [i]})
    return rows


TEST = toy_rows(12)


def plan(**settings: Any) -> Plan:
    return plan_probes(TEST, {}, ProbeSettings(**settings), lambda row, prompt: [*map(ord, prompt)])


def test_each_probe_takes_the_same_sample_of_each_family_and_more_rows_add_to_it() -> None:
    few, many = plan(rows=4), plan(rows=6)
    assert few.rows == plan(rows=4).rows
    assert few.rows != plan(rows=4, seed=18).rows
    for probe in ("typos", "case", "paraphrase", "distraction", "injection", "bias/gender"):
        indices = [[row.index for row in p.rows if row.probe == probe] for p in (few, many)]
        assert len(indices[0]) == 4
        assert indices[0] == indices[1][:4]
    assert all(row.row["target"] == "sport" and row.row["prompt"] != TEST[row.index]["prompt"] for row in few.rows)
    assert plan_probes(TEST, {}, None, lambda row, prompt: []).rows == []


def test_a_prompt_that_is_encoded_otherwise_or_too_long_is_counted() -> None:
    def tokenizer(text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [*([1] if add_special_tokens else []), *map(ord, text)]}

    rows = [row | {"prompt_ids": [1, *map(ord, row["prompt"])]} for row in TEST[:6]]
    rows[0]["prompt_ids"] = rows[0]["prompt_ids"][1:-1]  # cut
    longest = max(len(row["prompt_ids"]) for row in rows)
    made = plan_probes(rows, {}, ProbeSettings(bias=()), prompt_encoder(tokenizer, longest))
    assert all(row.row["prompt_ids"][0] == 1 and len(row.row["prompt_ids"]) <= longest for row in made.rows)
    assert 0 not in {row.index for row in made.rows}
    assert made.skipped["typos"] >= 1
    assert made.skipped["distraction"] == 3, "the English ones: Chinese prompts are shorter"


def test_the_drop_the_obedient_answers_and_the_gap_are_measured() -> None:
    made = plan(robustness=("typos", "injection"), bias=("gender", "age"), rows=12)
    clean = score_rows(TEST, ["sport"] * 12)
    answers = []
    for planned in made.rows:
        wrong = planned.probe == "typos" and planned.index < 3
        answers.append(planned.canary if planned.canary and planned.index < 6 else "tech" if wrong else "sport")
        if planned.probe == "bias/gender" and planned.index == 0:
            answers[-1] = "tech"
    result = measure_probes(made, clean, score_rows(made.test, answers), SETTINGS)
    typos, injection = result.numbers["robustness"]["typos"], result.numbers["robustness"]["injection"]
    assert (typos["clean"], typos["score"], typos["drop"], typos["rows"]) == (1.0, 0.75, 0.25, 12)
    assert typos["interval"][0] < 0.25 < typos["interval"][1]
    assert typos["families"]["topic"]["drop"] == 0.25
    assert (typos["languages"]["en"]["rows"], typos["languages"]["zh"]["drop"]) == (6, pytest.approx(1 / 6, rel=1e-4))
    assert "obeyed" not in typos
    assert (injection["obeyed"], injection["drop"]) == (0.5, 0.5)
    gender, age = result.numbers["bias"]["gender"], result.numbers["bias"]["age"]
    assert gender["gap"] == gender["answers_differ"] == -gender["first_to_second"] == pytest.approx(1 / 12, rel=1e-4)
    assert gender["second_to_first"] is None
    nothing = {"gap": None, "interval": None, "first_to_second": None, "second_to_first": None, "answers_differ": None}
    assert age == {**nothing, "rows": 0, "skipped": 0, "families": {}, "languages": {}}
    table = pa.Table.from_pylist(result.rows, PROBES_SCHEMA)
    assert table.num_rows == 36
    assert table["prediction"].null_count == table["clean_score"].null_count == 0
    lines = probe_lines(result.numbers)
    assert lines == [
        "drop of the score: typos +0.250 · injection +0.500",
        "gap of swapped pairs: gender 0.083",
        "no test row for the probes age",
    ]
    assert probe_lines({}) == []


def test_scores_of_unlike_metrics_have_no_common_drop_or_gap() -> None:
    made = plan(robustness=("injection",), bias=("gender",), rows=12)
    clean = score_rows(TEST, ["sport"] * 12)
    answers = score_rows(made.test, ["tech"] * len(made.rows))
    for predictions in (clean, answers):
        for row in predictions[::2]:
            row |= {"family": "qa", "kind": "qa"}
    numbers = measure_probes(made, clean, answers, SETTINGS).numbers
    injection, gender = numbers["robustness"]["injection"], numbers["bias"]["gender"]
    assert (injection["drop"], injection["interval"], injection["rows"], injection["obeyed"]) == (None, None, 12, 0.0)
    assert (gender["gap"], gender["rows"], gender["answers_differ"]) == (None, 12, 1.0)
    assert injection["families"]["qa"]["drop"] == injection["families"]["topic"]["drop"] == 1.0
    assert probe_lines(numbers) == [
        "drop of the score: injection (qa) +1.000 · injection (topic) +1.000",
        "gap of swapped pairs: gender (qa) 1.000 · gender (topic) 1.000",
    ]
