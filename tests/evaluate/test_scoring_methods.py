"""Scoring methods without generated answers: by the label head, by the likelihood of a text, by preference."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.base.heads import head_logits
from tasks.base.load import load_base, load_trained
from tasks.base.pin import pin_base, read_base
from tasks.base.settings import BaseSettings
from tasks.base.weights_digest import weights_digest
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.dataset.rendered import TEMPLATES, TEST
from tasks.errors import BaseModelError, ConfigError
from tasks.evaluate import heads, likelihood, stage
from tasks.finetune.stage import run as finetune
from tasks.gate.stage import run as gate
from tasks.render.stage import run as render
from tasks.runtime.files import read_json, write_json, write_parquet
from tasks.state.round import Champion, Round, write_round

TAUGHT: dict[str, dict[str, Any]] = {
    "tiny_bert": {"method": "full", "epochs": 12.0, "learning_rate": 3e-3, "warmup_share": 0.1},
    "tiny_llama": {"method": "lora", "epochs": 8.0, "learning_rate": 1e-2, "lora": {"rank": 8}},
}


def settle(project: Path, base: Path, **finetune_settings: Any) -> PipelineConfig:
    given = {"objective": "classify", "precision": "fp32", "micro_batch_rows": 8, "max_steps": None}
    split = {"valid_share": 0.1, "test_share": 0.25}
    write_params(project, params(base, [], finetune={**given, **finetune_settings}, curate=split))
    config = load_config()
    begin_round(config)
    return config


def teach(project: Path, base: Path, rows: list[dict[str, Any]], **settings: Any) -> PipelineConfig:
    """From rows to a candidate."""
    config = settle(project, base, **settings)
    write_part(rows)
    write_round(Round(None, 1, 0))
    for room in (curate, render, finetune):
        room(config)
    return config


def predictions(role: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(paths.PREDICTIONS / f"{role}.parquet").to_pylist()
    return rows


@pytest.mark.parametrize("base", TAUGHT)
def test_a_trained_head_beats_the_commonest_label_and_passes_the_gate(
    base: str, project: Path, request: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = teach(project, request.getfixturevalue(base), toy_rows(120, 0), **TAUGHT[base])
    stage.run(config)
    gate(config)
    metrics = read_json(paths.METRICS)["models"]
    topic, floor = (metrics[role]["families"]["topic"] for role in ("candidate", "base"))
    assert topic["score"] > 0.8 > 0.5 > floor["score"]
    assert topic["measure"] == "exact match"
    assert set(topic["per_class"]) == {"business", "sport", "tech"}
    assert topic["macro_f1"] > 0.8
    assert 0 < topic["ece"] < topic["confidence"] < 1
    assert "ece" not in floor
    assert metrics["candidate"]["valid_perplexity"] is None
    commonest = read_json(paths.RENDERED / "labels" / "commonest.json")["topic"]
    assert {row["prediction"] for row in predictions("base")} == {commonest}
    assert metrics["base"]["way"] == "commonest label of the training rows"
    assert read_json(paths.VERDICT)["passed"] is True
    assert {path.name for path in paths.PLOTS.iterdir()} == {"confusion-topic.svg", "families.svg", "training.svg"}
    assert "the base is scored by the commonest label of the training rows" in capsys.readouterr().err
    labels = load_trained(paths.MODEL, read_base()).config.id2label
    model = load_trained(paths.MODEL, read_base())
    rendered = {row["row_id"]: row["prompt_ids"] for row in pq.read_table(TEST).to_pylist()}
    for row in predictions("candidate"):
        ((*logits,),) = head_logits(model, [rendered[row["row_id"]]], 1)
        assert row["prediction"] == labels[logits.index(max(logits))]
        assert row["confidence"] == pytest.approx(math.exp(max(logits)) / sum(map(math.exp, logits)), abs=1e-4)


@pytest.fixture
def judged(project: Path, tiny_bert: Path) -> PipelineConfig:
    """A candidate of labels that was evaluated, beside the base."""
    config = teach(project, tiny_bert, toy_rows(60, 0), method="lora", max_steps=3)
    stage.run(config)
    return config


def make_champion() -> str:
    """The candidate serves; returns its digest."""
    digest = weights_digest(paths.MODEL)
    shutil.copytree(paths.MODEL, paths.MODELS / digest)
    write_round(Round(Champion(1, digest), 1, 0))
    return digest


def test_a_champion_is_evaluated_by_its_head_and_nothing_is_computed_twice(
    judged: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_champion()
    first = predictions("candidate")
    monkeypatch.setattr(heads, "head_logits", lambda *_, **__: pytest.fail("it was computed again"))
    stage.run(judged)
    assert predictions("champion") == first == predictions("candidate")


def test_a_champion_that_answers_is_not_compared_with_a_head_of_labels(judged: PipelineConfig) -> None:
    folder = paths.MODELS / make_champion()
    (folder / "labels.json").unlink()
    with pytest.raises(BaseModelError, match=r"generates, and the candidate classifies.*register\.model_name"):
        stage.run(judged)


def test_test_rows_with_a_label_without_training_rows_are_wrong_and_reported(
    judged: PipelineConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(TEST).to_pylist()
    table[0]["target"] = "天气"
    write_parquet(TEST, pa.Table.from_pylist(table, pq.read_schema(TEST)))
    stage.run(judged)
    assert "evaluate: 1 test rows have a label that no training row has: 天气" in capsys.readouterr().err
    classes = read_json(paths.METRICS)["models"]["candidate"]["families"]["topic"]["per_class"]
    assert classes["天气"]["recall"] == 0
    assert next(row["score"] for row in predictions("candidate") if row["target"] == "天气") == 0


@pytest.fixture
def texts(project: Path, tiny_gpt2: Path) -> PipelineConfig:
    """Texts learned by heart, and some to be judged by."""
    from support.rawtext import text_rows

    return teach(
        project, tiny_gpt2, text_rows(90), objective="pretrain", method="full", epochs=4.0, learning_rate=3e-3,
        micro_batch_rows=1,
    )  # fmt: skip


def test_a_text_is_scored_by_its_likelihood_per_byte_and_training_raises_it(
    texts: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tasks.inference.embedded.EmbeddedEngine.generate", lambda *_, **__: pytest.fail("it generated")
    )
    stage.run(texts)
    gate(texts)
    models = read_json(paths.METRICS)["models"]
    family = models["candidate"]["families"]["text"]
    assert family["measure"] == "likelihood a byte"
    assert "exact_match" not in family
    assert set(family["languages"]) == {"en", "zh"}
    rows = predictions("candidate")
    size = sum(len(row["target"].encode()) for row in rows)
    bits = sum(-math.log2(row["score"]) * len(row["target"].encode()) for row in rows)
    assert family["bits_per_byte"] == pytest.approx(bits / size, rel=1e-4)
    assert family["bits_per_byte"] == models["candidate"]["overall"]["bits_per_byte"]
    assert family["languages"]["zh"]["bits_per_byte"] != family["bits_per_byte"]
    assert family["bits_per_byte"] < models["base"]["families"]["text"]["bits_per_byte"] - 0.5
    assert models["candidate"]["valid_perplexity"] < models["base"]["valid_perplexity"]
    assert all(0 < row["score"] <= 1 for row in rows)
    assert read_json(paths.VERDICT)["passed"] is True


def test_bits_are_those_of_every_token_behind_the_start_token(texts: PipelineConfig) -> None:
    import torch

    stage.run(texts)
    model = load_base(read_base())
    rendered = {row["row_id"]: row["prompt_ids"] for row in pq.read_table(TEST).to_pylist()}
    for row in predictions("base")[:5]:
        ids = torch.tensor([[0, *rendered[row["row_id"]]]])
        with torch.inference_mode():
            mean = float(model(input_ids=ids, labels=ids).loss)
        assert row["bits"] == pytest.approx(mean * (ids.shape[1] - 1) / math.log(2), rel=1e-4)
        assert row["score"] == pytest.approx(2 ** (-row["bits"] / len(row["target"].encode())))


def test_a_long_text_is_split_into_pieces_and_scores_as_their_sum(tiny_gpt2: Path, project: Path) -> None:
    settle(project, tiny_gpt2)
    model = load_base(read_base())
    piece = model.config.max_position_embeddings - 1
    text = [5 + i % 200 for i in range(2 * piece + 10)]
    whole, *parts = likelihood.text_losses(model, [text, text[:piece], text[piece : 2 * piece], text[2 * piece :]], [0])
    assert whole == pytest.approx(sum(parts), rel=1e-5)


def test_cached_texts_are_not_computed_again(texts: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.run(texts)
    first = predictions("candidate"), read_json(paths.METRICS)
    monkeypatch.setattr("tasks.evaluate.models.load_base", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr("tasks.evaluate.models.load_trained", lambda *_: pytest.fail("a model was loaded"))
    stage.run(texts)
    assert (predictions("candidate"), read_json(paths.METRICS)) == first


def rank(project: Path, base: Path, rows: int = 12) -> None:
    """A reward model with random weights as candidate, and pairs to judge it by; in every third both answers are the same."""
    import torch
    from transformers import AutoTokenizer

    pin_base(BaseSettings(model=str(base)))
    write_round(Round(None, 1, 0))
    tokenizer = AutoTokenizer.from_pretrained(base)
    table = []
    for i in range(rows):
        prompt, better, worse = (
            tokenizer(text)["input_ids"] for text in (f"Name city {i}? ", f"City {i}.", f"天气{i}")
        )
        worse = better if i % 3 == 0 else worse
        fixed = {"row_id": f"r{i:03}", "batch": "b1", "family": "qa", "kind": "preference", "language": "en"}
        shown = {"prompt": f"Name city {i}?", "prompt_ids": prompt, "target": f"City {i}.", "template": "t"}
        whole = {"chosen_ids": prompt + better, "rejected_ids": prompt + worse}
        table.append({**fixed, **shown, "before": "", "after": "", **whole})
    write_parquet(TEST, pa.Table.from_pylist(table))
    write_json(TEMPLATES, {"form": "ranked"})
    torch.manual_seed(3)
    load_base(read_base(), labels=("reward",)).save_pretrained(paths.MODEL)
    tokenizer.save_pretrained(paths.MODEL)
    write_json(paths.MODEL / "labels.json", ["reward"])


def test_a_reward_model_is_evaluated_by_the_answer_it_scores_higher(project: Path, tiny_gpt2: Path) -> None:
    import torch

    rank(project, tiny_gpt2)
    write_params(project, params(tiny_gpt2, [], finetune={"objective": "reward"}))
    config = load_config()
    stage.run(config)
    gate(config)
    metrics = read_json(paths.METRICS)["models"]
    assert metrics["candidate"]["families"]["qa"]["measure"] == "better answer preferred"
    assert metrics["candidate"]["way"] == "reward of each answer"
    reward, base = load_trained(paths.MODEL, read_base()), load_base(read_base())
    rows = {row["row_id"]: row for row in pq.read_table(TEST).to_pylist()}

    def likelihood_of(ids: list[int], prompt: int) -> float:
        labels = torch.tensor([[-100] * prompt + ids[prompt:]])
        with torch.inference_mode():
            return -float(base(input_ids=torch.tensor([ids]), labels=labels).loss)

    answers: dict[str, set[str]] = {"candidate": set(), "base": set()}
    for role, judge in (
        ("candidate", lambda ids, _: head_logits(reward, [ids], 1)[0][0]),
        ("base", likelihood_of),
    ):
        for row in predictions(role):
            test_row = rows[row["row_id"]]
            prompt = len(test_row["prompt_ids"])
            better, worse = judge(test_row["chosen_ids"], prompt), judge(test_row["rejected_ids"], prompt)
            expected = 0.5 if test_row["chosen_ids"] == test_row["rejected_ids"] else float(better > worse)
            assert row["score"] == expected
            answers[role].add(row["prediction"])
    assert "neither" in answers["candidate"]
    assert "neither" in answers["base"]


def test_a_pair_that_is_too_long_for_the_model_is_reported(project: Path, tiny_gpt2: Path) -> None:
    rank(project, tiny_gpt2)
    table = pq.read_table(TEST).to_pylist()
    table[1]["chosen_ids"] = [7] * 600
    write_parquet(TEST, pa.Table.from_pylist(table))
    with pytest.raises(ConfigError, match=r"a test row has 600 tokens, but the context of the base is 512"):
        stage.run(settle(project, tiny_gpt2))


def test_the_test_rows_of_texts_are_whole(texts: PipelineConfig) -> None:
    rows = pq.read_table(TEST).to_pylist()
    assert {row["kind"] for row in rows} == {"text"}
    assert all(row["prompt_ids"][-1] == 0 for row in rows)
