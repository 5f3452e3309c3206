"""The stage: each model of the round is evaluated on each test row once; cached predictions are not computed again."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.extendpage import code_of
from support.project import params, write_params
from support.toyjudge import copy_rubrics, judge_settings, texts_of, verdict
from support.toyserver import ToyServer

from tasks import paths
from tasks.base import precision
from tasks.base.generation import Answer
from tasks.base.pin import pin_base
from tasks.base.settings import BaseSettings
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.dataset.rendered import TEMPLATES, TEST, VALID
from tasks.errors import BaseModelError, ConfigError, DataError
from tasks.evaluate import inference, stage
from tasks.evaluate.code import execution
from tasks.evaluate.code.settings import CodeSettings
from tasks.evaluate.encoder import find_encoder
from tasks.evaluate.prediction_cache import PredictionCache
from tasks.evaluate.predictions import PREDICTIONS_SCHEMA
from tasks.evaluate.probes.measures import PROBES_SCHEMA
from tasks.evaluate.probes.settings import ProbeSettings
from tasks.evaluate.settings import EvaluateSettings
from tasks.inference.embedded import EmbeddedEngine
from tasks.inference.engine import WorkerKilled
from tasks.prompts.templates.templates import read_templates
from tasks.runtime import threads
from tasks.runtime.cores import Limits, Load
from tasks.runtime.files import folder_digest, read_json, write_json, write_parquet, write_text
from tasks.runtime.plugins import unload_plugins
from tasks.sandbox.run_programs import Outcome, Program
from tasks.state.round import Champion, Round, read_round, write_round

pytest_plugins = ["support.toyendpoint"]

SETTINGS = EvaluateSettings(max_new_tokens=4, batch_rows=3, bootstrap_samples=200, precision="fp32")
CONFIG: Any = SimpleNamespace(evaluate=SETTINGS)


def save_trained(base: Path, folder: Path, seed: int, *, adapter: bool) -> str:
    """A model that differs from the base by noise; returns its weights digest."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    if adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    else:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    if adapter:
        config = read_json(folder / "adapter_config.json")
        write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": str(base)})
    return weights_digest(folder)


@pytest.fixture(scope="session")
def trained(tiny_gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A champion (an adapter) and a candidate (full weights), made once."""
    folder = tmp_path_factory.mktemp("trained")
    save_trained(tiny_gpt2, folder / "champion", 1, adapter=True)
    save_trained(tiny_gpt2, folder / "candidate", 2, adapter=False)
    return {"champion": folder / "champion", "candidate": folder / "candidate"}


def render(base: Path, rows: int, prompt_words: int = 1, kinds: Mapping[str, str] = {}) -> None:
    """data/rendered with `rows` test rows (half of them Chinese) and two validation examples."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    table = []
    for i in range(rows):
        topic, chinese = i % 3 < 2, i % 2 == 1
        prompt = (f"第{i}篇报道 " if chinese else f"report {i} ") * prompt_words
        target = ["sport", "体育"][i % 2] if topic else f"City {i}."
        table.append(
            {
                "row_id": f"r{i:03}",
                "batch": "b1",
                "family": "topic" if topic else "qa",
                "prompt": prompt,
                "target": target,
            }
            | {"kind": "classification" if topic else kinds.get("qa", "qa"), "language": "zh" if chinese else "en"}
            | {"prompt_ids": tokenizer(prompt)["input_ids"]}
        )
    names = ("row_id", "batch", "family", "kind", "language", "prompt", "target")
    schema = pa.schema([*((name, pa.string()) for name in names), ("prompt_ids", pa.list_(pa.int32()))])
    write_parquet(TEST, pa.Table.from_pylist(table, schema))
    write_json(TEMPLATES, {"form": "answers"})
    valid = paths.RENDERED / "answers" / "valid"
    valid.mkdir(parents=True, exist_ok=True)
    np.save(valid / "input_ids.npy", np.arange(5, 25, dtype=np.int32))
    np.save(valid / "loss_mask.npy", np.array([0] * 8 + [1] * 2 + [0] * 5 + [1] * 5, dtype=np.uint8))
    np.save(valid / "examples.npy", np.array([0, 10, 20], dtype=np.int64))
    np.save(valid / "packs.npy", np.array([0, 0], dtype=np.int64))
    np.save(valid / "ids.npy", np.array(["a", "b"], dtype="S32"))
    write_parquet(VALID, pa.table({"row_id": ["b", "a"], "family": ["topic", "qa"]}))


@pytest.fixture(scope="session")
def evaluated(tiny_gpt2: Path, trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder, with a champion, in which `evaluate` ran once."""
    root = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        pin_base(BaseSettings(model=str(tiny_gpt2)))
        shutil.copytree(trained["candidate"], paths.MODEL)
        (paths.MODEL / "curves.jsonl").write_text('{"step": 1, "loss": 3.0}\n')
        digest = weights_digest(trained["champion"])
        shutil.copytree(trained["champion"], paths.MODELS / digest)
        render(tiny_gpt2, rows=8)
        write_round(Round(Champion(2, digest), 1, 0))
        stage.run(CONFIG)
    return root


@pytest.fixture
def world(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Round:
    """A copy of that folder, in which the test works."""
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return read_round()


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of prompts of each call of the engine."""
    counts: list[int] = []
    real = EmbeddedEngine.generate

    def counted(self: EmbeddedEngine, prompts: list[list[int]], *options: Any) -> list[Answer]:
        counts.append(len(prompts))
        return real(self, prompts, *options)

    monkeypatch.setattr(EmbeddedEngine, "generate", counted)
    return counts


def outputs() -> list[str]:
    return [folder_digest(paths.PREDICTIONS), folder_digest(paths.REPORTS)]


def test_all_models_answer_the_same_rows_and_are_measured(world: Round) -> None:
    metrics = read_json(paths.METRICS)
    assert metrics["test_rows"] == 8
    assert list(metrics["models"]) == ["base", "candidate", "champion"]  # JSON is written with sorted keys
    ids = []
    for role, measured in metrics["models"].items():
        table = pq.read_table(paths.PREDICTIONS / f"{role}.parquet")
        ids.append(table["row_id"].to_pylist())
        assert table.schema.names == PREDICTIONS_SCHEMA.names
        assert measured["valid_perplexity"] > 1
        assert set(measured["families"]) == {"qa", "topic"}
        losses = measured["valid_losses"]
        assert set(losses) == {"qa", "topic"}
        tokens = sum(each["tokens"] for each in losses.values())
        mean = sum(each["loss"] * each["tokens"] for each in losses.values()) / tokens
        assert math.log(measured["valid_perplexity"]) == pytest.approx(mean, rel=1e-4)
    assert ids[0] == ids[1] == ids[2]
    models = metrics["models"]
    assert models["champion"]["weights_digest"] == world.champion.weights_digest  # type: ignore[union-attr]
    assert models["candidate"]["weights_digest"] == weights_digest(paths.MODEL)
    assert len({measured["valid_perplexity"] for measured in models.values()}) == 3
    assert {path.name for path in paths.PLOTS.iterdir()} == {"confusion-topic.svg", "families.svg", "training.svg"}


def test_probes_are_answered_by_every_model_once_and_change_no_score(world: Round, generated: list[int]) -> None:
    before = read_json(paths.METRICS)["models"]
    probes = ProbeSettings(robustness=("typos", "case", "injection"), bias=("gender",), rows=3)
    config: Any = SimpleNamespace(evaluate=SETTINGS.model_copy(update={"probes": probes}))
    stage.run(config)
    first = outputs()
    models = read_json(paths.METRICS)["models"]
    assert [count > 10 for count in generated] == [True] * 3
    for role, measured in models.items():
        robustness, bias = measured.pop("robustness"), measured.pop("bias")
        assert measured == before[role]
        assert {name: number["rows"] for name, number in robustness.items()} == {"typos": 5, "case": 4, "injection": 5}
        assert bias["gender"]["rows"] == 0
        table = pq.read_table(paths.PROBES / f"{role}.parquet")
        assert table.schema.names == PROBES_SCHEMA.names
        assert table.num_rows == 14
    stage.run(config)
    assert len(generated) == 3, "all answers are cached"
    assert outputs() == first
    stage.run(CONFIG)
    assert not paths.PROBES.exists()


def test_times_are_measured_if_required_and_change_no_other_number(world: Round) -> None:
    before = read_json(paths.METRICS)["models"]
    config: Any = SimpleNamespace(evaluate=SETTINGS.model_copy(update={"latency_rows": 3, "price_per_hour": 2.0}))
    stage.run(config)
    for role, measured in read_json(paths.METRICS)["models"].items():
        latency, cost = measured.pop("latency"), measured.pop("cost")
        assert measured == before[role]
        assert measured["size"]["bytes"] > 0
        assert latency["rows"] == 3
        assert 0 < latency["answer_s"]["p5"] <= latency["answer_s"]["median"] <= latency["answer_s"]["p95"]
        assert cost["per_1000_answers"] > 0


def test_an_encoder_adds_the_similarity_and_changes_no_score(world: Round, tiny_bert: Path) -> None:
    before = read_json(paths.METRICS)["models"]
    config: Any = SimpleNamespace(evaluate=SETTINGS.model_copy(update={"encoder": str(tiny_bert)}))
    stage.run(config)
    metrics, first = read_json(paths.METRICS), outputs()
    assert metrics["encoder"] == find_encoder(str(tiny_bert)).entry()
    for role, measured in metrics["models"].items():
        for family, scores in before[role]["families"].items():
            assert measured["families"][family]["score"] == scores["score"]
        qa = measured["families"]["qa"]["free_text"]["answers"]
        assert -1 < qa["similarity"] < 1
        assert before[role]["families"]["qa"]["free_text"]["answers"] == {**qa, "similarity": None}
        rows = pq.read_table(paths.PREDICTIONS / f"{role}.parquet").to_pylist()
        assert {row["kind"] for row in rows if row["similarity"] is None} == {"classification"}
    stage.run(config)
    assert outputs() == first


def test_answers_of_code_are_executed_and_sampled(world: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    class RunsNothing:
        def run(self, programs: list[Program]) -> list[Outcome]:
            return [Outcome("passed" if any("City" in text for text in each.texts) else "wrong") for each in programs]

        def describe(self) -> dict[str, Any]:
            return {"isolation": "none"}

    monkeypatch.setattr(execution, "open_sandbox", lambda *_, **__: RunsNothing())
    rows = [row | {"tests": "", "stub": ""} for row in pq.read_table(TEST).to_pylist()]
    tested = [row for row in rows if row["family"] == "qa"]
    for row in tested:
        row |= {"kind": "code", "tests": "assert f(1)"}
    write_parquet(TEST, pa.Table.from_pylist(rows))
    code = CodeSettings(execute=True, pass_at=(1, 4), samples=4)
    config: Any = SimpleNamespace(evaluate=SETTINGS.model_copy(update={"code": code}))
    stage.run(config)
    metrics, first = read_json(paths.METRICS), outputs()
    assert metrics["code_execution"] == {"isolation": "none", "rows": len(tested), "targets": {"passed": len(tested)}}
    for role, measured in metrics["models"].items():
        assert measured["code"]["qa"]["rows"] == len(tested)
        assert measured["code"]["qa"]["sampled"]["pass_at_4"]["rows"] == len(tested)
        scores = {row["score"] for row in pq.read_table(paths.PREDICTIONS / f"{role}.parquet").to_pylist()}
        assert scores <= {0.0, 1.0}
        samples = pq.read_table(paths.PREDICTIONS / f"{role}.code_samples.parquet").to_pylist()
        assert [row["sample"] for row in samples] == [0, 1, 2, 3] * len(tested)
        assert len({row["prediction"] for row in samples}) > len(tested), "the samples of a row differ"
    shutil.rmtree(paths.PREDICTION_CACHE)
    stage.run(config)
    assert outputs() == first


def test_answers_do_not_depend_on_the_batch(world: Round, tiny_gpt2: Path) -> None:
    """Padding and the other rows of a batch do not change an answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval(), AutoTokenizer.from_pretrained(tiny_gpt2)
    for row in pq.read_table(paths.PREDICTIONS / "base.parquet").to_pylist():
        ids = torch.tensor([tokenizer(row["prompt"])["input_ids"]])
        out = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        assert row["prediction"] == tokenizer.decode(out, skip_special_tokens=True).strip()
        assert row["is_cut"] == (tokenizer.eos_token_id not in out.tolist())


def test_answers_are_cached_by_the_effective_precision(
    world: Round, generated: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Any = SimpleNamespace(evaluate=SETTINGS.model_copy(update={"precision": "auto"}))
    assert EvaluateSettings().precision == "auto"
    computes = [False]
    monkeypatch.setattr(precision, "computes_bf16", lambda: computes[0])
    before = folder_digest(paths.PREDICTIONS)
    stage.run(config)
    assert (generated, read_json(paths.METRICS)["precision"]) == ([], "fp32")  # they are those of fp32
    assert folder_digest(paths.PREDICTIONS) == before
    computes[0] = True  # as if the project had been carried to another machine
    stage.run(config)
    assert sum(generated) == 3 * 8
    assert read_json(paths.METRICS)["precision"] == "bf16"
    assert "warning" not in capsys.readouterr().err
    computes[0] = False
    stage.run(SimpleNamespace(evaluate=SETTINGS.model_copy(update={"precision": "bf16"})))  # type: ignore[arg-type]
    assert sum(generated) == 3 * 8
    assert "evaluate: warning: bf16 is emulated on" in capsys.readouterr().err


def test_threads_and_processes_follow_the_load_while_models_answer_and_change_no_answer(
    world: Round, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    first, loads = outputs(), itertools.cycle([1.0, 0.0, 0.0])
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "CHECK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(threads, "read_limits", lambda: Limits(2, None, None))
    monkeypatch.setattr(threads.LoadMeter, "read", lambda _: Load(next(loads)))
    shutil.rmtree(paths.PREDICTION_CACHE)
    try:
        stage.run(CONFIG)
    finally:
        torch.set_num_threads(1)
    out = capsys.readouterr().err
    assert "evaluate: 1 thread (2 cores, of which other processes use 1.0)" in out
    assert "evaluate: generates in 2 processes" in out
    assert outputs() == first


def test_answers_from_before_a_failure_are_not_generated_again(
    world: Round, generated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = outputs()
    shutil.rmtree(paths.PREDICTION_CACHE)
    add = PredictionCache.add

    def add_two(self: PredictionCache, values: dict[str, Any]) -> None:
        add(self, values)
        if self.schema.field("value").type == inference.ANSWER and len(self.values) == 2:
            raise WorkerKilled

    with monkeypatch.context() as patched:
        patched.setattr(PredictionCache, "add", add_two)
        with pytest.raises(BaseModelError, match=r"ran the base was killed.*memory.*evaluate\.batch_rows") as caught:
            stage.run(CONFIG)
    assert "\n" not in str(caught.value)
    stage.run(CONFIG)
    assert generated == [8, 6, 8, 8]
    assert outputs() == first


def test_a_model_that_computes_nan_is_one_line(world: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    load = inference.LazyModel.__call__

    def damaged(self: inference.LazyModel) -> Any:
        model = load(self)
        if self.spec.role == "candidate":
            with torch.no_grad():
                next(iter(model.parameters())).fill_(float("nan"))
        return model

    shutil.rmtree(paths.PREDICTION_CACHE)
    monkeypatch.setattr(inference.LazyModel, "__call__", damaged)
    for families in ("losses", "answers"):
        if families == "answers":  # without validation rows
            monkeypatch.setattr(stage, "_valid_examples", lambda form: ([], []))
        with pytest.raises(BaseModelError, match=r"^evaluate: the candidate computes NaN.*learning_rate") as caught:
            stage.run(CONFIG)
        assert "\n" not in str(caught.value)


def test_a_second_run_loads_no_model_and_writes_the_same_bytes(world: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    first = outputs()
    shutil.rmtree(paths.REPORTS)
    monkeypatch.setattr("tasks.evaluate.models.load_base", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr("tasks.evaluate.models.load_trained", lambda *_: pytest.fail("a model was loaded"))
    stage.run(CONFIG)
    assert outputs() == first


def test_without_the_cache_the_bytes_are_the_same(world: Round, generated: list[int]) -> None:
    first = outputs()
    shutil.rmtree(paths.PREDICTION_CACHE)
    stage.run(CONFIG)
    assert sum(generated) == 3 * 8
    assert outputs() == first


def test_only_new_rows_are_generated(world: Round, generated: list[int], tiny_gpt2: Path) -> None:
    render(tiny_gpt2, rows=11)
    stage.run(CONFIG)
    assert generated == [3, 3, 3]


def test_the_candidate_that_became_champion_is_not_evaluated_again(
    world: Round, generated: list[int], tiny_gpt2: Path
) -> None:
    promoted = weights_digest(paths.MODEL)
    shutil.copytree(paths.MODEL, paths.MODELS / promoted)
    write_round(Round(Champion(3, promoted), 1, 1))
    shutil.rmtree(paths.MODEL)
    save_trained(tiny_gpt2, paths.MODEL, 3, adapter=False)
    stage.run(CONFIG)
    assert generated == [8]


def test_a_damaged_cache_is_ignored(world: Round, generated: list[int]) -> None:
    for file in paths.PREDICTION_CACHE.iterdir():
        file.write_bytes(b"half a file")
    write_round(Round(None, 1, 0))
    stage.run(CONFIG)
    assert generated == [8, 8]


def test_other_settings_have_another_cache(world: Round, generated: list[int]) -> None:
    write_round(Round(None, 1, 0))
    stage.run(SimpleNamespace(evaluate=CONFIG.evaluate.model_copy(update={"max_new_tokens": 1})))  # type: ignore[arg-type]
    assert generated == [8, 8]


def test_without_a_champion_base_and_candidate_are_compared(world: Round) -> None:
    write_round(Round(None, 1, 0))
    stage.run(CONFIG)
    assert sorted(path.name for path in paths.PREDICTIONS.iterdir()) == ["base.parquet", "candidate.parquet"]
    assert "champion" not in read_json(paths.METRICS)["models"]


def test_no_test_rows_are_a_result_too(world: Round, tiny_gpt2: Path) -> None:
    render(tiny_gpt2, rows=0)
    stage.run(CONFIG)
    assert read_json(paths.METRICS)["test_rows"] == 0
    assert pq.read_table(paths.PREDICTIONS / "candidate.parquet").num_rows == 0


def test_a_champion_that_is_missing_or_changed_is_named(world: Round) -> None:
    assert world.champion is not None
    folder = paths.MODELS / world.champion.weights_digest
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"champion \(version 2\) have changed.*strop run --rejudge"):
        stage.run(CONFIG)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"champion \(version 2\) is missing"):
        stage.run(CONFIG)


def test_a_champion_of_another_base_is_not_compared(world: Round) -> None:
    assert world.champion is not None
    folder = paths.MODELS / world.champion.weights_digest
    config = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": "another/base"})
    with pytest.raises(BaseModelError, match=r"another base \(another/base, not .*register\.model_name"):
        stage.run(CONFIG)


def test_a_prompt_that_leaves_no_room_for_the_answer_is_reported_before_the_first_token(
    world: Round, tiny_gpt2: Path
) -> None:
    render(tiny_gpt2, rows=2, prompt_words=200)
    with pytest.raises(ConfigError, match="context of 512 tokens"):
        stage.run(CONFIG)


@pytest.mark.parametrize(
    "missing", [TEST, TEMPLATES, paths.MODEL / "model.safetensors", paths.RENDERED / "answers" / "valid" / "packs.npy"]
)
def test_a_missing_input_is_one_clear_line(world: Round, missing: Path) -> None:
    missing.unlink()
    with pytest.raises(DataError, match="dvc repro") as caught:
        stage.run(CONFIG)
    assert "\n" not in str(caught.value)


@pytest.fixture
def plugin(world: Round) -> Iterator[Path]:
    """The plugin of the page on extending, named in params.yaml, with a template file that uses its metric."""
    path = Path("my_package/strop.py")
    path.parent.mkdir()
    path.write_text(code_of("A metric"))
    write_params(Path(), {**params("x", []), "plugins": ["my_package.strop"]})
    write_text(
        Path("data/templates/qa.yaml"), "kind: length\ntemplates: [{id: q, language: en, user: '{{ input }}'}]\n"
    )
    yield path
    unload_plugins()


def test_the_metric_of_the_page_on_extending_scores_cached_predictions(
    plugin: Path, tiny_gpt2: Path, generated: list[int]
) -> None:
    load_config()
    assert read_templates()["qa"].kind == "length"
    render(tiny_gpt2, rows=8, kinds={"qa": "length"})
    stage.run(CONFIG)
    rows = [row for row in pq.read_table(paths.PREDICTIONS / "candidate.parquet").to_pylist() if row["family"] == "qa"]
    for row in rows:
        answer, target = row["prediction"].strip(), row["target"]
        assert row["score"] == min(len(answer), len(target)) / max(len(answer), len(target))
    families = read_json(paths.METRICS)["models"]["candidate"]["families"]
    assert families["qa"]["measure"] == "length ratio"
    assert families["topic"]["measure"] == "exact match"
    plugin.write_text(plugin.read_text().replace("return min", "return 0.5 * min"))
    load_config()
    stage.run(CONFIG)
    edited = read_json(paths.METRICS)["models"]["candidate"]["families"]
    assert edited["qa"]["score"] == pytest.approx(families["qa"]["score"] / 2, rel=1e-5)
    assert edited["topic"] == families["topic"]
    assert generated == [], "another metric changes no prediction"


def test_a_plugin_that_may_change_anything_makes_the_models_predict_again(plugin: Path, generated: list[int]) -> None:
    plugin.write_text("import tasks.evaluate.inference\n")
    load_config()
    stage.run(CONFIG)
    assert generated


def test_a_metric_of_a_plugin_with_an_invalid_score_ends_the_evaluation(plugin: Path, tiny_gpt2: Path) -> None:
    plugin.write_text(plugin.read_text().replace("return min", "return 7 * min"))
    load_config()
    render(tiny_gpt2, rows=8, kinds={"qa": "length"})
    with pytest.raises(ConfigError, match=r"metric of the kind `length`: `partial_score` returned .*from 0 to 1"):
        stage.run(CONFIG)


def test_the_judge_compares_the_free_form_answers_of_candidate_and_champion(
    world: Round, start_endpoint: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_rubrics()
    # the tiny model's answers are random bytes, which the judge would not compare
    monkeypatch.setattr("tasks.scoring.degenerate_answers.has_encoding_damage", lambda *_: False)
    answers: list[dict[str, str]] = []

    def prefer_the_greater(prompt: str) -> Any:
        answers.append(texts_of(prompt))
        return verdict("A" if answers[-1]["answer_a"] > answers[-1]["answer_b"] else "B")

    toy = start_endpoint(prefer_the_greater)
    config: Any = SimpleNamespace(evaluate=SETTINGS.model_copy(update={"judge": judge_settings(toy.base_url)}))
    stage.run(config)
    metrics = read_json(paths.METRICS)
    measured = metrics["judge"]["families"]["qa"]
    assert metrics["judge"]["reference"] == "champion"
    assert measured["win"] + measured["tie"] + measured["loss"] == measured["rows"] == 2
    assert measured["judged"] > 0
    assert measured["flips"] == 0
    assert measured["calls"] == len(answers) == 2 * measured["judged"]
    assert answers[0]["question"].startswith(("report", "第"))  # these rows have no question of their own: the prompt
    assert not measured["may_decide"]
    scores = {
        role: {
            row["family"]: row["judge_score"]
            for row in pq.read_table(paths.PREDICTIONS / f"{role}.parquet").to_pylist()
        }
        for role in ("base", "champion", "candidate")
    }
    assert scores["base"] == {"topic": None, "qa": None}
    assert scores["candidate"]["topic"] is None
    assert scores["candidate"]["qa"] + scores["champion"]["qa"] == 1
    assert "evaluate: judge: qa: " in capsys.readouterr().err
    before, calls = outputs(), len(toy.prompts)
    stage.run(config)
    assert (outputs(), len(toy.prompts)) == (before, calls)


def test_a_missing_rubric_is_reported_before_any_model_is_loaded(world: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "read_base", lambda: pytest.fail("a model was about to be loaded"))
    config: Any = SimpleNamespace(
        evaluate=SETTINGS.model_copy(update={"judge": judge_settings("http://127.0.0.1:9/v1")})
    )
    with pytest.raises(ConfigError, match="family `qa` has no rubric"):
        stage.run(config)


def test_a_server_generates_the_answers_of_every_model_and_metrics_json_describes_it(world: Round) -> None:
    before = {role: pq.read_table(paths.PREDICTIONS / f"{role}.parquet") for role in ("base", "champion", "candidate")}
    server = ToyServer()
    try:
        engine = {"command": server.command()}
        options = EvaluateSettings.model_validate(SETTINGS.model_dump(exclude={"engine"}) | {"engine": engine})
        stage.run(SimpleNamespace(evaluate=options))  # type: ignore[arg-type]
    finally:
        server.close()
    for role, predictions in before.items():
        assert pq.read_table(paths.PREDICTIONS / f"{role}.parquet").equals(predictions)
    assert read_json(paths.METRICS)["inference"] == {
        "name": "server",
        "version": dict.fromkeys(before, "0.11.0"),
        "is_verified": dict.fromkeys(before, True),
        "agreement": {role: {"rows": 8, "equal": 8} for role in before},
        "settings": {"decoding": "greedy", "command": list(server.command())},
    }
