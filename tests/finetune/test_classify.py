"""Objective `classify`: a classification head learns on an encoder and on a decoder, with an exact loss, reproducibly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_classes import prepare

from tasks import paths
from tasks.base.heads import head_logits, padded
from tasks.base.load import load_base, load_tokenizer, load_trained
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.dataset.rendered import read_rendered
from tasks.errors import ConfigError, DataError, TrainingError
from tasks.finetune import job, stage
from tasks.finetune.loop.progress_callback import ProgressCallback
from tasks.finetune.model.initial_weights import load_start_weights
from tasks.finetune.objectives import classify
from tasks.finetune.objectives.classify import LabelledTexts, LabelTrainer, balanced_weights
from tasks.finetune.work import Work
from tasks.render.stage import run as render
from tasks.runtime.files import read_json, write_json

BASES = ("tiny_bert", "tiny_gpt2", "tiny_llama")
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "freeze": {"method": "freeze", "freeze": {"last_layers": 1}},
    "lora": {"method": "lora"},
    "dora": {"method": "dora"},
}


def curves() -> list[dict[str, float]]:
    return [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
def test_a_classification_head_learns_on_an_encoder_and_a_decoder_with_each_method(
    base: str, method: str, project: Path, request: Any
) -> None:
    stage.run(prepare(project, request.getfixturevalue(base), max_steps=60, micro_batch_rows=8, **METHODS[method]))
    losses = [point["loss"] for point in curves() if "loss" in point]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert any("valid_loss" in point for point in curves())
    report = read_json(paths.TRAINING_REPORT)
    assert report["classes"].keys() == {"business", "sport", "tech"}
    assert sum(report["classes"].values()) == report["train_examples"]
    assert read_json(paths.MODEL / "labels.json") == ["business", "sport", "tech"]
    assert read_json(paths.MODEL / "templates.json")["form"] == "labels"


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", [m if m == "lora" else pytest.param(m, marks=pytest.mark.slow) for m in METHODS])
@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
def test_the_loaded_model_has_the_logits_of_the_trained_one(
    base: str, method: str, precision: str, project: Path, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New modules besides the head (a pooler) are saved too, and frozen ones are unchanged."""
    config = prepare(project, request.getfixturevalue(base), precision=precision, max_steps=3, **METHODS[method])
    seen: list[Any] = []
    save = job.save_model

    def look(model: Any, *arguments: Any) -> None:
        seen.append(head_logits(model.eval(), texts, 4))
        save(model, *arguments)

    texts = [ids for ids, _ in _examples("train")][:6]
    monkeypatch.setattr(job, "save_model", look)
    stage.run(config)
    loaded = head_logits(load_trained(paths.MODEL, read_base()), texts, 2)
    close = 1e-5 if precision == "fp32" else 5e-2
    torch.testing.assert_close(torch.tensor(loaded), torch.tensor(seen[0]), rtol=close, atol=close)
    if method == "full" or precision == "bf16":
        again = head_logits(load_trained(paths.MODEL, read_base()), texts, 2)
        assert again == loaded


def _examples(split: str) -> list[tuple[list[int], int]]:
    rendered, labels = read_rendered(split, "labels"), np.load(paths.RENDERED / "labels" / split / "labels.npy")
    ends = rendered.examples
    return [(rendered.input_ids[ends[i] : ends[i + 1]].tolist(), int(labels[i])) for i in range(len(rendered))]


@pytest.mark.parametrize("base", BASES)
def test_padding_changes_nothing(base: str, project: Path, request: Any) -> None:
    prepare(project, request.getfixturevalue(base))
    model = load_base(read_base(), labels=("a", "b", "c"))
    texts = [[7, 8, 9, 10, 11, 12], [7, 8], [20, 21, 22]]
    together = head_logits(model, texts, 3)
    alone = [model(input_ids=torch.tensor([ids])).logits[0].tolist() for ids in texts]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    batch = padded(texts, model)
    assert batch["attention_mask"].tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_loss_is_the_weighted_cross_entropy_per_example_of_the_global_batch(
    weights: str, project: Path, tiny_bert: Path
) -> None:
    settings = {"classify": {"class_weights": weights}, "gradient_accumulation_steps": 3, "micro_batch_rows": 3}
    stage.run(prepare(project, tiny_bert, method="full", max_steps=1, label_smoothing=0.1, **settings))
    config = load_config()
    torch.manual_seed(0)
    work = Work(config.finetune, read_base(), "fp32", project / "checkpoints")
    trainer = classify.prepare(work).make_trainer([])
    examples = _examples("train")[:5]
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(5)])
    counts = np.bincount([label for _, label in _examples("train")], minlength=3)
    scale = torch.tensor(balanced_weights(counts) if weights == "balanced" else np.ones(3)).float()
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=9)
    logits = torch.tensor(head_logits(trainer.model, [ids for ids, _ in examples], 5))
    expected = torch.tensor(0.0)
    for line, (_, label) in zip(logits, examples, strict=True):
        logs = line.log_softmax(0)
        expected = expected - 0.9 * scale[label] * logs[label] - 0.1 / 3 * (scale * logs).sum()
    torch.testing.assert_close(loss, expected / 9, rtol=1e-4, atol=1e-5)


def test_balanced_weights_make_rare_classes_count_as_much_as_common_ones() -> None:
    counts = np.array([90, 9, 1, 0])
    weights = balanced_weights(counts)
    assert (weights * counts)[:3] == pytest.approx([100 / 3] * 3)
    assert weights[3] == 0


def test_the_same_inputs_give_the_same_weights_and_another_seed_others(project: Path, tiny_bert: Path) -> None:
    digests = []
    for seed in (1, 1, 2):
        stage.run(prepare(project, tiny_bert, method="full", dropout=0.1, seed=seed))
        digests.append(weights_digest(paths.MODEL))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("base", "method"), [("tiny_bert", "full"), ("tiny_llama", "lora"), ("tiny_bert", "lora")])
def test_an_interrupted_training_resumes_to_the_weights_of_an_uninterrupted_one(
    base: str, method: str, project: Path, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"method": method, "epochs": 3.0, "max_steps": None, "checkpoint_every_steps": 2, "dropout": 0.1}
    config = prepare(project, request.getfixturevalue(base), **settings)
    stage.run(config)
    whole, points, steps = weights_digest(paths.MODEL), curves(), read_json(paths.TRAINING_REPORT)["steps"]
    stop = steps // 3 + 3  # within the second epoch
    on_log = ProgressCallback.on_log

    def stopped(self: ProgressCallback, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == stop:
            raise KeyboardInterrupt
        on_log(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressCallback, "on_log", stopped)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config)
    stage.run(config)
    assert weights_digest(paths.MODEL) == whole
    assert curves() == points


def test_texts_of_similar_length_share_a_batch(project: Path, tiny_bert: Path) -> None:
    config = prepare(project, tiny_bert)
    trainer = classify.prepare(Work(config.finetune, read_base(), "fp32", project / "checkpoints")).make_trainer([])
    shares = [batch["attention_mask"].float().mean() for batch in trainer.get_train_dataloader()]
    assert sorted(i for batch in trainer.get_train_dataloader() for i in batch["rows"].tolist()) == list(
        range(len(trainer.train_dataset))
    )
    assert min(shares) > 0.9


def test_the_rows_of_a_bad_batch_are_named(project: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = prepare(project, tiny_bert, method="full", gradient_accumulation_steps=2)
    plain = LabelTrainer._padded_loss

    def broken(self: LabelTrainer, *arguments: Any) -> Any:
        loss, outputs = plain(self, *arguments)
        return loss * float("nan"), outputs

    monkeypatch.setattr(LabelTrainer, "_padded_loss", broken)
    with pytest.raises(TrainingError, match="the loss is nan at step 1; rows of its batch: ") as error:
        stage.run(config)
    row_ids = {row_id.decode() for row_id in read_rendered("train", "labels").ids.tolist()}
    named = [word for word in re.findall("[0-9a-f]{32}", str(error.value)) if word in row_ids]
    assert len(named) == 8, "both micro-batches"


@pytest.mark.parametrize("settings", [{"method": "prompt"}, {"loss_on": "all"}], ids=str)
def test_a_setting_that_classify_does_not_support_is_rejected_before_any_work(
    settings: dict[str, Any], project: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_bert, **settings)
    monkeypatch.setattr(job, "train", lambda *_: pytest.fail("it began to work"))
    with pytest.raises(TrainingError, match="cannot be combined with objective: classify"):
        stage.run(config)


def test_a_text_longer_than_the_context_is_reported_before_the_first_step(project: Path, tiny_gpt2: Path) -> None:
    config = prepare(project, tiny_gpt2)
    path = paths.RENDERED / "labels" / "train"
    np.save(path / "examples.npy", np.array([0, 600]))
    np.save(path / "input_ids.npy", np.zeros(600, np.int32))
    np.save(path / "packs.npy", np.array([0]))
    np.save(path / "labels.npy", np.array([0], np.int32))
    with pytest.raises(TrainingError, match="a row has 600 tokens, and the context length of the model is 512"):
        stage.run(config)


def test_a_single_label_is_rejected(project: Path, tiny_bert: Path) -> None:
    config = prepare(project, tiny_bert)
    for split in ("train", "valid"):
        labels = np.load(paths.RENDERED / "labels" / split / "labels.npy")
        np.save(paths.RENDERED / "labels" / split / "labels.npy", np.zeros_like(labels))
    write_json(paths.RENDERED / "labels" / "labels.json", ["sport"])
    with pytest.raises(DataError, match="a classifier needs at least two"):
        stage.run(config)


@pytest.mark.parametrize("methods", [("lora", "lora"), ("lora", "full"), ("full", "lora")], ids="-".join)
def test_a_training_continues_with_the_head_of_the_earlier_one(
    methods: tuple[str, str], project: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"objective": "classify", "method": methods[0], "max_steps": 3, "micro_batch_rows": 4, "lora": {"rank": 4}}
    config = prepare(
        project,
        tiny_bert,
        method=methods[1],
        before=[{**before, "learning_rate": 5e-3, "precision": "fp32", "threads": 1}],
    )
    texts = [ids for ids, _ in _examples("train")][:4]
    build = classify.build_model
    logits: list[tuple[Any, Any]] = []

    def compare(work: Work, **named: Any) -> Any:
        model = build(work, **named)
        if work.start is not None:
            first = load_trained(work.start, work.record)
            logits.append((head_logits(first, texts, 4), head_logits(model.eval(), texts, 4)))
        return model

    monkeypatch.setattr(classify, "build_model", compare)
    stage.run(config)
    torch.testing.assert_close(torch.tensor(logits[0][1]), torch.tensor(logits[0][0]), rtol=1e-4, atol=1e-5)
    assert read_json(paths.TRAINING_REPORT)["before"][0]["steps"] == 3
    assert read_json(paths.MODEL / "labels.json") == ["business", "sport", "tech"]


def test_a_head_that_lacks_a_label_is_no_start(project: Path, tiny_bert: Path) -> None:
    from tasks.state.round import Champion
    from tasks.state.training_start import Start, write_start

    config = prepare(project, tiny_bert, method="full")
    stage.run(config)
    digest = weights_digest(paths.MODEL)
    paths.MODELS.mkdir(parents=True, exist_ok=True)
    paths.MODEL.rename(paths.MODELS / digest)
    write_json(paths.MODELS / digest / "labels.json", ["business", "sport", "weather"])
    write_start(Start(("labels",), Champion(1, digest)))
    with pytest.raises(TrainingError, match=r"classifies business, sport, weather; the training rows also have tech"):
        stage.run(config)
    render(config)
    assert read_json(paths.RENDERED / "labels" / "labels.json") == ["business", "sport", "tech", "weather"]


def test_a_tokenizer_without_an_end_token_is_saved_with_the_model(project: Path, tiny_bert: Path) -> None:
    stage.run(prepare(project, tiny_bert, max_steps=1))
    tokenizer = load_tokenizer(paths.MODEL, generates=False)
    assert tokenizer.eos_token is None
    assert tokenizer.decode(tokenizer("a match")["input_ids"]).startswith("[CLS]")


def test_a_dataset_gives_texts_in_the_order_of_the_rows(project: Path, tiny_bert: Path) -> None:
    prepare(project, tiny_bert)
    rendered = read_rendered("train", "labels")
    labels = np.load(paths.RENDERED / "labels" / "train" / "labels.npy")
    texts = LabelledTexts(rendered, labels)
    assert len(texts) == len(labels) == len(rendered.ids)
    assert [len(texts[i]["input_ids"]) for i in range(len(texts))] == texts.lengths.tolist()


@pytest.mark.parametrize("objective", ["sft", "dpo", "reward"])
def test_only_classify_starts_from_a_classifier(objective: str, project: Path, tiny_llama: Path) -> None:
    with pytest.raises(ConfigError, match=f"objective: {objective} cannot start from objective: classify"):
        prepare(project, tiny_llama, objective=objective, before=[{"objective": "classify"}])
    config = prepare(project, tiny_llama, max_steps=1)
    stage.run(config)
    settings = config.finetune.model_copy(update={"objective": objective})
    work = Work(settings, read_base(), "fp32", paths.CHECKPOINTS, start=paths.MODEL)
    with pytest.raises(TrainingError, match=f"cannot be the start of objective: {objective}"):
        load_start_weights(work, "fp32")


def test_the_saved_tokenizer_truncates_texts_as_in_training(project: Path, tiny_bert: Path) -> None:
    stage.run(prepare(project, tiny_bert, max_steps=1))
    assert load_tokenizer(paths.MODEL, generates=False).model_max_length == load_config().render.max_length_tokens
