"""Forgetting: anchors and tasks of lm-eval; and few-shot answers. Each model has the same rows, and the same numbers each time."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_jsonl, write_part
from support.toyworld import make_adapter

from tasks import paths
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.errors import ConfigError, DataError
from tasks.evaluate import lm_eval_tasks
from tasks.evaluate.forgetting_settings import LmEvalSettings
from tasks.evaluate.lm_eval_tasks import _entry, require_tasks
from tasks.evaluate.stage import run as evaluate
from tasks.inference.embedded import EmbeddedEngine
from tasks.render import anchors
from tasks.render.stage import run as render
from tasks.runtime.files import file_digest, folder_digest, read_json, write_text
from tasks.state.round import Round, write_round

ANCHORS = "data/forgetting/anchors.jsonl"
TASKS = "data/forgetting/tasks"
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: data/forgetting/tasks/{name}.jsonl}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
"""
CHOICES = """\
output_type: multiple_choice
doc_to_choice: ["yes", "是"]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
LIKELIHOOD = """\
output_type: loglikelihood
metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]
"""
QUESTIONS = [
    {"question": text, "answer": "yes" if text.isascii() else "是"}
    for text in ("Is it day?", "是白天吗？", "Is it night?", "是夜晚吗？")
]
LM_EVAL = {"tasks": ["yes_no", "likely", "damaged"], "include_path": TASKS, "batch_rows": 2}


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "max_new_tokens": 4, "precision": "fp32", "bootstrap_samples": 200, "processes": 1,
        "anchors": ANCHORS, "shots": 1, "lm_eval": LM_EVAL, **changes,
    }  # fmt: skip


def configure(base: Path, **changes: Any) -> Any:
    lengths = {"max_length_tokens": 128, "pack_length_tokens": 256}
    curating = {"near_duplicates": "off", "test_share": 0.2}
    write_params(Path(), params(base, [], curate=curating, render=lengths, evaluate=settings(**changes)))
    return load_config()


@pytest.fixture(scope="module")
def evaluated(tiny_gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which base and candidate were tested by everything; of one task the data are missing."""
    root = tmp_path_factory.mktemp("forgetting")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("HF_DATASETS_CACHE", str(root / "cache"))
        shutil.copytree(Path(__file__).parents[2] / paths.TEMPLATES, paths.TEMPLATES)
        write_jsonl(
            Path(ANCHORS),
            [
                {"family": "qa", "input": "Name the largest planet.", "output": "Jupiter."},
                {"family": "qa", "input": "最大的行星叫什么？", "output": "木星。"},
                {"family": "topic", "input": "The match ended with a goal.", "output": "sport"},
            ],
        )
        for name, more in (("yes_no", CHOICES), ("likely", LIKELIHOOD), ("damaged", CHOICES)):
            write_text(Path(TASKS) / f"{name}.yaml", TASK.format(name=name) + more)
        for name in ("yes_no", "likely"):
            write_jsonl(Path(TASKS) / f"{name}.jsonl", QUESTIONS)
        config = configure(tiny_gpt2)
        begin_round(config)
        write_part(toy_rows(15, 10))
        curate(config)
        render(config)
        make_adapter(tiny_gpt2, paths.MODEL, 3)
        write_round(Round(None, 1, 0))
        evaluate(config)
    return root


@pytest.fixture
def world(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, in which the test works."""
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(name: str, role: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pq.read_table(paths.PREDICTIONS / name / f"{role}.parquet").to_pylist()
    return table


def test_every_model_answers_the_anchors_and_the_candidates_changes_have_an_interval(world: Path) -> None:
    metrics = read_json(paths.METRICS)
    counts = {"rows": 3, "left_out": {}, "in_training": 0}
    assert metrics["anchors"] == {"anchors": ANCHORS, "digest": file_digest(Path(ANCHORS)), **counts}
    for role, measured in metrics["models"].items():
        anchors, answers = measured["forgetting"]["anchors"], rows("anchors", role)
        assert (anchors["rows"], set(anchors["families"])) == (3, {"qa", "topic"})
        assert anchors["families"]["qa"]["languages"].keys() == {"en", "zh"}
        assert "score" not in anchors, "token F1 and accuracy have no common mean"
        qa = anchors["families"]["qa"]
        assert qa["score"] == pytest.approx(sum(row["score"] for row in answers[:2]) / 2, rel=1e-5)
        assert qa["interval"][0] <= qa["score"] <= qa["interval"][1]
        assert [(row["use"], row["target"]) for row in answers] == [
            ("anchor", "Jupiter."), ("anchor", "木星。"), ("anchor", "sport"),
        ]  # fmt: skip
    of_qa = {role: each["forgetting"]["anchors"]["families"]["qa"] for role, each in metrics["models"].items()}
    assert not of_qa["base"].get("changes")
    changes, scores = of_qa["candidate"]["changes"], {role: entry["score"] for role, entry in of_qa.items()}
    assert set(changes) == {"base"}
    assert changes["base"]["score"] == pytest.approx(scores["candidate"] - scores["base"], abs=1e-5)
    assert changes["base"]["interval"][0] <= changes["base"]["score"] <= changes["base"]["interval"][1]


def test_lm_eval_tests_the_loaded_models_and_a_task_that_fails_is_a_problem(world: Path) -> None:
    metrics = read_json(paths.METRICS)
    assert metrics["lm_eval"]["version"] == "0.4.13"
    assert metrics["lm_eval"]["files"][f"{TASKS}/yes_no.yaml"] == file_digest(Path(TASKS) / "yes_no.yaml")
    for role, measured in metrics["models"].items():
        task = measured["forgetting"]["yes_no"]
        assert (task["rows"], "problem" in task) == (4, False)
        assert 0 <= task["acc"]["interval"][0] <= task["acc"]["score"] <= task["acc"]["interval"][1] <= 1
        assert task["acc"]["stderr"] is not None
        assert measured["forgetting"]["damaged"].keys() == {"rows", "problem"}, role
        values = pq.read_table(paths.PREDICTIONS / "lm_eval" / f"{role}.parquet").to_pylist()
        of_rows = [row for row in values if (row["task"], row["metric"]) == ("yes_no", "acc")]
        assert [row["row"] for row in of_rows] == [0, 1, 2, 3]
        assert sum(row["value"] for row in of_rows) / 4 == task["acc"]["score"]
        assert {*values[0]} == {"task", "metric", "row", "value"}, "no text"
    change = metrics["models"]["candidate"]["forgetting"]["yes_no"]["acc"]["changes"]["base"]
    assert change["interval"][0] <= change["score"] <= change["interval"][1]


def test_the_numbers_of_lm_eval_are_those_of_the_model_with_its_adapter(world: Path, tiny_gpt2: Path) -> None:
    """The perplexity of the answers, computed here with transformers."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    base = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()

    def perplexity(model: Any) -> float:
        sums = []
        for row in QUESTIONS:
            before = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
            ids = tokenizer(f"{row['question']}{row['answer']}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logs = model(torch.tensor([ids])).logits.log_softmax(-1)[0]
            sums.append(float(sum(logs[index - 1, ids[index]] for index in range(len(before), len(ids)))))
        return math.exp(-sum(sums) / len(sums))

    measured = {role: each["forgetting"]["likely"] for role, each in read_json(paths.METRICS)["models"].items()}
    of_base, of_candidate = perplexity(base), perplexity(PeftModel.from_pretrained(base, paths.MODEL).eval())
    assert measured["base"]["perplexity"]["score"] == pytest.approx(of_base, rel=1e-4)
    assert measured["candidate"]["perplexity"]["score"] == pytest.approx(of_candidate, rel=1e-4)
    assert abs(of_base / of_candidate - 1) > 0.01
    assert measured["candidate"]["perplexity"]["interval"] is None, "it is no mean of shares"
    assert measured["candidate"]["perplexity"]["changes"] == {}


def test_few_shot_scores_are_beside_the_scores_of_the_gate(world: Path) -> None:
    for role, measured in read_json(paths.METRICS)["models"].items():
        shots = measured["shots"]["1"]
        answers, plain = rows("shots", role), pq.read_table(paths.PREDICTIONS / f"{role}.parquet").to_pylist()
        assert (shots["rows"], shots["fewer_shots"]) == (len(answers), 0) == (len(plain), 0)
        assert set(shots["families"]) == set(measured["families"])
        assert [row["row_id"] for row in answers] == [row["row_id"] for row in plain]
        assert all(len(few["prompt"]) > len(zero["prompt"]) for few, zero in zip(answers, plain, strict=True))
        assert "shots" not in plain[0]


def test_a_second_run_loads_no_model_but_for_the_task_that_failed_and_writes_the_same_bytes(
    world: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(tiny_gpt2, lm_eval={**LM_EVAL, "tasks": ["yes_no", "likely"]})
    evaluate(config)
    first = folder_digest(paths.PREDICTIONS), read_json(paths.METRICS)
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedEngine, "__init__", lambda *_, **__: pytest.fail("a model answered"))
        patch.setattr(lm_eval_tasks, "_Harness", lambda *_: pytest.fail("the harness began"))
        evaluate(config)
    assert (folder_digest(paths.PREDICTIONS), read_json(paths.METRICS)) == first
    shutil.rmtree(paths.PREDICTION_CACHE)
    evaluate(config)
    assert (folder_digest(paths.PREDICTIONS), read_json(paths.METRICS)) == first


def test_rows_of_another_setting_are_an_error(world: Path, tiny_gpt2: Path) -> None:
    with pytest.raises(DataError, match=r"shots.parquet: was rendered for evaluate.shots: 1, which is 2 now.*ingest"):
        evaluate(configure(tiny_gpt2, shots=2))
    shutil.rmtree(paths.RENDERED)
    with pytest.raises(DataError, match=r"anchors.parquet: was rendered for evaluate.anchors: None"):
        evaluate(configure(tiny_gpt2, shots=0))


def test_a_number_that_is_not_finite_is_a_problem() -> None:
    measured = {"alias": "x", "sample_len": 2, "acc,none": math.nan, "f1,strict": 0.5, "f1_stderr,strict": "N/A"}
    entry = _entry(measured, [{"filter": "strict", "f1": 0.0}, {"filter": "strict", "f1": 0.5}])
    assert entry == {"rows": 2, "problem": "acc is nan", "f1_strict": {"score": 0.5, "stderr": None, "values": []}}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ["yes_no", "nonesuch"]}, r"evaluate.lm_eval.tasks: no task nonesuch in data/forgetting/tasks"),
        ({"include_path": "data/forgetting/none"}, r"data/forgetting/none: no such folder"),
    ],
)
def test_an_unknown_task_is_an_error_before_any_model_is_loaded(
    changes: dict[str, Any], problem: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import tasks

    real = tasks.TaskManager  # its own list of tasks takes seconds to read
    monkeypatch.setattr(tasks, "TaskManager", lambda **options: real(**{**options, "include_defaults": False}))
    with pytest.raises(ConfigError, match=problem):
        require_tasks(LmEvalSettings.model_validate({**LM_EVAL, **changes}, strict=False))


def test_a_missing_library_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_tasks, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"lm-eval is not installed\. Install it: pip install lm-eval"):
        require_tasks(LmEvalSettings(tasks=("a",)))


def test_a_question_of_an_anchor_is_found_in_other_case_width_and_white_space() -> None:
    def questions(*texts: tuple[str, str]) -> list[str]:
        rows = [{"instruction": one, "input": two, "history": "[]"} for one, two in texts]
        result: list[str] = anchors._questions(pa.Table.from_pylist(rows)).to_pylist()
        return result

    assert len(set(questions(("最大的行星？", ""), ("", " 最大的行星?")))) == 1
    assert len(set(questions(("Name it:", "The  largest\nPlanet"), ("", "name it： the largest planet\n")))) == 1
    assert len(set(questions(("Name it:", "Mars"), ("Name it:", "Venus")))) == 2


def test_data_outside_the_folder_of_a_task_are_in_its_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = LmEvalSettings(tasks=("a",), include_path=TASKS)
    write_text(Path(TASKS) / "a.yaml", "task: a")
    data = Path("data/forgetting/a.jsonl")
    write_text(data, "{}")
    before = lm_eval_tasks.describe_tasks(own)["files"]
    assert before.keys() == {f"{TASKS}/a.yaml", data.as_posix()}
    write_text(data, '{"question": "?"}')
    assert lm_eval_tasks.describe_tasks(own)["files"] != before, "results of other data are not read from the cache"
    assert lm_eval_tasks.describe_tasks(LmEvalSettings(tasks=("a",)))["files"] == {}


@pytest.mark.parametrize("path", ["anchors.jsonl", "data/forgetting/../raw/x.jsonl", "/tmp/x.jsonl"])
def test_anchors_are_an_input_of_each_version(path: str, tiny_gpt2: Path, project: Path) -> None:
    with pytest.raises(ConfigError, match="it is below data/forgetting/"):
        configure(tiny_gpt2, anchors=path)


def test_the_name_of_the_anchors_is_no_task() -> None:
    with pytest.raises(ValueError, match="name the task otherwise"):
        LmEvalSettings(tasks=("anchors",))
    assert "DISABLE_MULTIPROC" not in os.environ
