"""By how much an output differs: rows, tensors, numbers, and what may differ from run to run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from tasks.reproduce.differences.numbers import OF_ONE_RUN, json_difference
from tasks.reproduce.differences.tables import table_difference
from tasks.reproduce.differences.tensors import tensor_difference
from tasks.reproduce.outputs import compare_files, compare_output
from tasks.reproduce.result import EnvironmentFacts, OutputResult, Reproduction, StageResult
from tasks.vcs import dvc_outputs


def table(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def answers(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"row_id": name, "answer": answer, "score": float(len(answer))} for name, answer in pairs]


def test_rows_are_counted_as_added_removed_and_changed_with_their_columns(tmp_path: Path) -> None:
    before = {"a.parquet": table(tmp_path / "1", answers(("r1", "yes"), ("r2", "no"), ("r3", "退货")))}
    after = {"a.parquet": table(tmp_path / "2", answers(("r1", "yes"), ("r3", "换货"), ("r4", "new")))}
    is_same, text, numbers = table_difference(before, after)
    assert (is_same, numbers) == (
        False,
        {"rows": 3, "added": 1, "removed": 1, "changed": 1, "columns": {"answer": 1}},
    )
    assert text == "1 added, 1 removed, 1 changed of 3 rows (33.3% changed: answer in 1)"


def test_equal_rows_in_other_bytes_are_equal_and_in_another_order_they_differ(tmp_path: Path) -> None:
    rows = answers(("r1", "yes"), ("r2", "好"))
    before = {"a": table(tmp_path / "1", rows)}
    after = {"a": table(tmp_path / "2", rows, compression="none")}
    assert table_difference(before, after)[:2] == (True, "the same rows in other bytes")
    turned = {"a": table(tmp_path / "3", rows[::-1])}
    assert table_difference(before, turned)[:2] == (False, "the same 2 rows in another order")


def test_rows_without_ids_and_repeated_ids_are_compared_by_content(tmp_path: Path) -> None:
    before = {"a": table(tmp_path / "1", [{"x": 1}, {"x": 1}, {"x": 2}])}
    after = {"a": table(tmp_path / "2", [{"x": 1}, {"x": 2}, {"x": 3}])}
    numbers = table_difference(before, after)[2]
    assert (numbers["added"], numbers["removed"], numbers["changed"]) == (1, 0, 1)
    twice = [{"row_id": "r", "reason": "a"}, {"row_id": "r", "reason": "b"}]
    before = {"a": table(tmp_path / "3", twice)}
    after = {"a": table(tmp_path / "4", [twice[0], {"row_id": "r", "reason": "c"}])}
    assert table_difference(before, after)[2]["changed"] == 1


def weights(path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, path)
    return path


def test_weights_are_compared_tensor_by_tensor_in_any_shard(tmp_path: Path) -> None:
    a, b = torch.tensor([3.0, 4.0]), torch.ones(2, 2, dtype=torch.bfloat16)
    before = {"m.safetensors": weights(tmp_path / "1", a=a, b=b)}
    shards = {"m-1.safetensors": weights(tmp_path / "2", a=a + 0.5), "m-2.safetensors": weights(tmp_path / "3", b=b)}
    is_same, text, numbers = tensor_difference(before, shards)
    assert not is_same
    assert (numbers["tensors"], numbers["differing"], numbers["largest_difference"]) == (2, 1, 0.5)
    assert numbers["relative_norm"] == pytest.approx((0.5 / 29) ** 0.5)
    assert text == "1 of 2 tensors differ; largest |Δ| 0.5, relative norm of Δ 0.131"
    same = {"m.safetensors": weights(tmp_path / "4", b=b, a=a)}
    assert tensor_difference(before, same)[0]


def test_tensors_of_one_name_in_two_files_are_compared_file_by_file(tmp_path: Path) -> None:
    a = torch.ones(2)
    before = {"a": weights(tmp_path / "1", x=a), "b": weights(tmp_path / "2", x=a)}
    after = {"a": weights(tmp_path / "3", x=a * 2), "b": weights(tmp_path / "4", x=a)}
    assert tensor_difference(before, after)[:2] == (
        False,
        "1 of 2 tensors differ; largest |Δ| 1, relative norm of Δ 0.707",
    )


def test_not_a_number_at_the_same_place_is_no_difference(tmp_path: Path) -> None:
    a = torch.tensor([1.0, float("nan")])
    save_file({"x": a}, tmp_path / "1", metadata={"made": "再"})
    assert tensor_difference({"a": tmp_path / "1"}, {"a": weights(tmp_path / "2", x=a)})[0]


def test_other_shapes_names_and_values_that_are_no_numbers_are_reported(tmp_path: Path) -> None:
    before = {"m": weights(tmp_path / "1", a=torch.zeros(2), b=torch.zeros(2), c=torch.zeros(1))}
    after = {"m": weights(tmp_path / "2", a=torch.zeros(3), c=torch.tensor([float("nan")]), d=torch.zeros(1))}
    _, text, numbers = tensor_difference(before, after)
    assert (numbers["reshaped"], numbers["added"], numbers["removed"]) == (["a"], ["d"], ["b"])
    assert numbers["largest_difference"] == float("inf")
    assert "added: d; removed: b; reshaped: a" in text


def test_numbers_of_a_report_are_compared_without_those_of_one_run() -> None:
    before = {"models": {"c": {"score": 0.5, "latency": {"answer_s": 1.0}}}, "list": [1, {"x": "a"}]}
    after = {"models": {"c": {"score": 0.75, "latency": {"answer_s": 2.0}}}, "list": [1, {"x": "b"}]}
    of_one_run = OF_ONE_RUN["data/reports/metrics.json"]
    is_same, text, numbers = json_difference(before, after, of_one_run)
    assert (is_same, text) == (False, "2 values: models.c.score +0.25, list.1.x a → b")
    assert numbers["ignored"] == ["models.c.latency.answer_s"]
    timed = {**before, "models": {"c": {"score": 0.5, "latency": {"answer_s": 3.0}}}}
    assert json_difference(before, timed, of_one_run)[:2] == (True, "equal apart from models.c.latency")


def test_the_scores_of_a_source_named_cost_or_latency_are_compared() -> None:
    for name in ("cost", "latency"):
        before, after = ({"models": {"candidate": {"sources": {name: {"accuracy": value}}}}} for value in (0.5, 0.9))
        assert not json_difference(before, after, OF_ONE_RUN["data/reports/metrics.json"])[0]


def test_a_name_with_a_dot_is_not_that_of_a_nested_value() -> None:
    before, after = ({"v1.2": value, "v1": {"2": 7}} for value in (1, 3))
    assert json_difference(before, after)[:2] == (False, '1 value: "v1.2" +2')


def test_times_in_the_metrics_do_not_make_them_differ(tmp_path: Path) -> None:
    for number in (1, 2):
        entry = {"models": {"candidate": {"score": 1, "latency": {"rows": 2, "answer_s": {"median": number}}}}}
        (tmp_path / f"{number}.json").write_text(json.dumps(entry))
    result = compare_files("data/reports/metrics.json", {"": tmp_path / "1.json"}, {"": tmp_path / "2.json"})
    assert (result.state, result.detail) == ("equal", "equal apart from models.candidate.latency.answer_s")
    assert compare_files("data/other.json", {"": tmp_path / "1.json"}, {"": tmp_path / "2.json"}).state == "differs"


def test_every_kind_of_file_of_an_output_is_compared(tmp_path: Path) -> None:
    sides: list[dict[str, Path]] = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        table(folder / "rows.parquet", answers(("r1", "a" * number)))
        np.save(folder / "ids.npy", np.array([1, 2, number]))
        (folder / "same.txt").write_text("same")
        (folder / "plot.svg").write_text(f"<svg>{number}</svg>")
        (folder / "lines.jsonl").write_text(f'{{"a": 1}}\n{{"a": {number}}}\n')
        (folder / f"only{number}.txt").write_text("x")
        sides.append({path.name: path for path in folder.iterdir()})
    result = compare_files("data/rendered", *sides)
    assert result.state == "differs"
    for part in (
        "1 changed of 1 row",
        "ids.npy: 1 of 3 values differ",
        "lines.jsonl: 1 value: 1.a +1",
        "1 file added: only2.txt; 1 file removed: only1.txt; 1 file changed: plot.svg",
    ):
        assert part in result.detail


@pytest.mark.parametrize("suffix", [".parquet", ".safetensors", ".npy", ".json"])
@pytest.mark.parametrize("content", [b"torn", b""])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    good, torn = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
    table(tmp_path / "1.parquet", answers(("r1", "a")))
    weights(tmp_path / "1.safetensors", a=torch.zeros(1))
    np.save(tmp_path / "1.npy", np.zeros(1))
    (tmp_path / "1.json").write_text("1")
    torn.write_bytes(content)
    result = compare_files("data/x", {f"p{suffix}": good}, {f"p{suffix}": torn})
    assert result.state == "differs"
    assert "cannot be compared" in result.detail
    assert "YAML" not in result.detail


@pytest.mark.parametrize("kind", ["file", "folder", "listing"])
def test_an_output_is_not_compared_with_a_cache_that_lost_the_recorded_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    new = tmp_path / "out" if kind == "file" else tmp_path / "out" / "a"
    new.parent.mkdir(exist_ok=True)
    new.write_text("new")
    (tmp_path / "cached").write_text("new")
    md5 = hashlib.md5(b"new" if kind == "listing" else b"recorded").hexdigest()
    listing = b"another" if kind == "listing" else b"listing"
    (tmp_path / "listing").write_bytes(listing)
    stored = dvc_outputs.StoredFile("" if kind == "file" else "a", md5, tmp_path / "cached")
    monkeypatch.setattr(dvc_outputs, "stored_files", lambda *_: [stored])
    monkeypatch.setattr(dvc_outputs, "path_in_cache", lambda _: tmp_path / "listing")
    recorded = md5 if kind == "file" else hashlib.md5(b"listing").hexdigest() + ".dir"
    result = compare_output("commit", "out", recorded, "1" * 32, tmp_path)
    assert result.state == "differs"
    assert "has not the recorded bytes" in result.detail


def reproduction(*stages: StageResult, outcome: str = "passed") -> Reproduction:
    facts = EnvironmentFacts("lock", "3.11.7", "/env", True, 0.0, ())
    return Reproduction("tiny", 3, "c" * 40, facts, stages, (), (), outcome, "passed", 0, None, 1.0)


def stage(name: str, **outputs: str) -> StageResult:
    return StageResult(name, 1.0, tuple(OutputResult(f"data/{k}", v, "why") for k, v in outputs.items()))  # type: ignore[arg-type]


def test_the_conclusion_names_the_first_stage_that_differs() -> None:
    whole = reproduction(stage("curate", curated="identical"), stage("gate", verdict="identical"))
    assert (whole.is_identical, whole.conclusion) == (True, "identical: every output of 2 stages")
    timed = reproduction(stage("evaluate", predictions="identical", metrics="equal"))
    assert (timed.is_identical, timed.conclusion) == (
        True,
        "identical: every output of 1 stage (data/metrics: why)",
    )
    stages = stage("curate", curated="identical"), stage("finetune", model="differs"), stage("evaluate", p="differs")
    other = reproduction(*stages, outcome="refused")
    assert other.first_difference == stages[1]
    assert (
        other.conclusion
        == "differs first in stage finetune: data/model; the verdict is refused, the recorded one passed"
    )
    assert other.as_dict()["first_difference"] == "finetune"
    assert "; the verdict is the same (passed)" in reproduction(*stages).conclusion


def test_a_difference_that_is_no_number_is_valid_json() -> None:
    output = OutputResult(
        "data/model", "differs", "why", {"largest_difference": float("inf"), "changed": {"a": (float("nan"), 1)}}
    )
    whole = reproduction(replace(stage("finetune"), outputs=(output,)))
    numbers = json.loads(json.dumps(whole.as_dict(), allow_nan=False, default=str))["stages"][0]["outputs"][0][
        "numbers"
    ]
    assert numbers == {"largest_difference": "inf", "changed": {"a": ["nan", 1]}}
