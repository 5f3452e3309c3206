"""Objective `distill`: the loss is that of the paper, the student gets closer to its teacher, and targets can be copied."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import make_tiny_llama
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.base.load import load_base, load_trained
from tasks.base.pin import read_base
from tasks.dataset.rendered import read_rendered
from tasks.errors import ConfigError, DataError, StropError, TrainingError
from tasks.finetune import job, stage
from tasks.finetune.objectives import distill, soft_targets
from tasks.finetune.step.chunked_loss import SoftTargets, summed_loss
from tasks.finetune.step.chunked_loss import distillation as distil
from tasks.finetune.step.packed_attention import PackedRows, collate
from tasks.runtime.files import read_json


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another random model with the same tokenizer, but with confident predictions."""
    from transformers import LlamaForCausalLM

    folder = make_tiny_llama(tmp_path_factory.mktemp("teacher") / "teacher")
    model = LlamaForCausalLM.from_pretrained(folder)
    torch.manual_seed(5)
    for value in model.parameters():
        value.data = torch.randn_like(value) * 0.2 if value.dim() > 1 else value.data
    model.save_pretrained(folder)
    return folder


def distil_from(folder: Path | str, **more: Any) -> dict[str, Any]:
    return {"objective": "distill", "distill": {"teacher": str(folder), **more}}


def test_loss_and_gradient_equal_the_softened_divergence_and_the_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 6, generator=generator, requires_grad=True)
    weight, bias = torch.randn(11, 6, generator=generator), torch.randn(11, generator=generator)
    labels = torch.randint(11, (7,), generator=generator)
    teacher_log, ids = torch.randn(7, 11, generator=generator).log_softmax(-1).topk(4)
    temperature, share = 3.0, 0.7
    logits = hidden @ weight.T + bias
    target = (teacher_log / temperature).softmax(-1)
    student_log = (logits / temperature).log_softmax(-1).gather(-1, ids)
    soft = temperature**2 * (target * (target.log() - student_log)).sum(-1)
    hard = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    has_teacher = torch.arange(7) != 2
    expected = torch.where(has_teacher, share * soft + (1 - share) * hard, hard).sum()
    teacher_log = torch.where(has_teacher[:, None], teacher_log, float("nan"))
    loss = summed_loss(hidden, weight, bias, distil(labels, SoftTargets(ids, teacher_log, temperature, share)))
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, hidden)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_padded_targets_have_no_effect_at_any_temperature() -> None:
    teacher_log = torch.tensor([[0.6, 0.3, 0.1]]).log()
    padded = torch.cat([teacher_log, torch.full((1, 2), -torch.inf)], 1)
    ids, labels = torch.tensor([[3, 1, 4, 0, 0]]), torch.tensor([1])
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    for temperature in (0.5, 2.0):
        loss, gradient = distil(labels, SoftTargets(ids, padded, temperature, 0.7))(logits, slice(None), True)
        expected = distil(labels, SoftTargets(ids[:, :3], teacher_log, temperature, 0.7))(logits, slice(None), True)
        torch.testing.assert_close((loss, gradient), expected)


def divergence(student: Any, teacher: Any) -> float:
    """Mean divergence of the student from the teacher at the trained tokens, in nats."""
    rows, total, count = PackedRows(read_rendered("train")), 0.0, 0
    for row in range(len(rows)):
        batch = collate([rows[row]])
        edges = batch["cu_seq_lens_q"].tolist()
        for first, last in itertools.pairwise(edges):
            ids, labels = batch["input_ids"][:, first:last], batch["labels"][0, first:last]
            positions = (labels != -100).nonzero()[:, 0] - 1
            with torch.no_grad():
                teacher_log = teacher(input_ids=ids).logits[0, positions].log_softmax(-1)
                student_log = student(input_ids=ids).logits[0, positions].log_softmax(-1)
            total += float((teacher_log.exp() * (teacher_log - student_log)).sum())
            count += len(positions)
    return total / count


def test_distillation_brings_the_student_closer_to_the_teacher_than_sft(
    project: Path, tiny_llama: Path, teacher: Path
) -> None:
    training = {"method": "full", "max_steps": 60, "learning_rate": 5e-3}
    config = prepare(project, tiny_llama, **training, **distil_from(teacher, share=1.0, top_tokens=64))
    loaded_teacher = load_trained(teacher, read_base())
    before = divergence(load_base(read_base()), loaded_teacher)
    stage.run(config)
    after_distillation = divergence(load_trained(paths.MODEL, read_base()), loaded_teacher)
    report = read_json(paths.TRAINING_REPORT)
    stage.run(prepare(project, tiny_llama, **training))
    after_sft = divergence(load_trained(paths.MODEL, read_base()), loaded_teacher)
    assert after_distillation < 0.9 * min(before, after_sft)
    assert report["taught_examples"] == report["train_examples"]


def test_soft_targets_are_computed_once(project: Path, tiny_llama: Path, teacher: Path, monkeypatch: Any) -> None:
    config = prepare(project, tiny_llama, **distil_from(teacher))
    stage.run(config)
    digest = trained_digest()
    monkeypatch.setattr(distill, "load_trained", lambda *_: pytest.fail("the teacher was loaded again"))
    stage.run(config)
    assert trained_digest() == digest


def test_stored_targets_give_the_same_weights_as_the_teacher(project: Path, tiny_llama: Path, teacher: Path) -> None:
    stage.run(prepare(project, tiny_llama, **distil_from(teacher)))
    digest = trained_digest()
    (stored,) = paths.SOFT_TARGETS.iterdir()
    shutil.move(stored, "carried")
    stage.run(prepare(project, tiny_llama, **distil_from("carried")))
    assert trained_digest() == digest


def test_examples_without_soft_targets_are_trained_on_their_own_answers(
    project: Path, tiny_llama: Path, teacher: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.setattr(soft_targets, "ROWS_PER_FILE", 1)
    stage.run(prepare(project, tiny_llama, **distil_from(teacher)))
    (stored,) = paths.SOFT_TARGETS.iterdir()
    files = sorted(stored.glob("*.parquet"))
    assert len(files) > 2
    files[0].unlink()
    stage.run(prepare(project, tiny_llama, **distil_from(stored)))
    report = read_json(paths.TRAINING_REPORT)
    missing = report["train_examples"] - report["taught_examples"]
    assert missing > 0
    assert f"{missing} examples have no soft targets; they are trained on their own answers only" in "".join(
        capfd.readouterr()
    )


def test_targets_of_other_rows_are_rejected(project: Path, tiny_llama: Path, teacher: Path) -> None:
    Path("others").mkdir()
    other = {"key": ["of another row"], "top_ids": [[1]], "top_log_probabilities": [[0.0]]}
    pq.write_table(pa.table(other), "others/1.parquet")
    with pytest.raises(DataError, match="its soft targets belong to none of the training rows"):
        stage.run(prepare(project, tiny_llama, **distil_from("others")))


def test_a_teacher_with_another_vocabulary_is_rejected(
    project: Path, tiny_llama: Path, teacher: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    other = shutil.copytree(teacher, tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(other)
    with pytest.raises(
        TrainingError, match="the teacher cannot be read: its tokenizer has 401 tokens, its embeddings 400"
    ):
        stage.run(prepare(project, tiny_llama, **distil_from(other)))
    model = LlamaForCausalLM.from_pretrained(other)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(other)
    with pytest.raises(TrainingError, match="another vocabulary than the base"):
        stage.run(prepare(project, tiny_llama, **distil_from(other)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"distill": {}}, "objective: distill needs a teacher"),
        ({"label_smoothing": 0.1}, "label_smoothing cannot be combined with objective: distill"),
        ({"method": "prompt"}, "method: prompt cannot be combined with objective: distill"),
    ],
)
@pytest.mark.parametrize("before", [[], [{"objective": "sft"}]], ids=["alone", "after another"])
def test_an_invalid_distillation_is_a_configuration_error(
    before: list[Any], more: dict[str, Any], message: str, project: Path, tiny_llama: Path, teacher: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(project, tiny_llama, **{**distil_from(teacher), "before": before, **more})


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone", "no such folder"), ("empty", "neither a model nor stored soft targets"), ("torn", "readable tokenizer")],
)
def test_an_unusable_teacher_is_reported_before_the_first_training(
    name: str, message: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("empty").mkdir()
    Path("torn").mkdir()
    Path("torn/config.json").write_text("{}")
    config = prepare(project, tiny_llama, before=[{"objective": "sft"}], **distil_from(name))
    monkeypatch.setattr(job, "train", lambda *_: pytest.fail("it began to work"))
    with pytest.raises(StropError, match=message):
        stage.run(config)


def test_a_teacher_that_is_neither_a_folder_nor_a_version_is_named(project: Path, tiny_llama: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        stage.run(prepare(project, tiny_llama, **distil_from("models/gone")))


def test_targets_with_too_few_tokens_are_padded(tmp_path: Path) -> None:
    target = np.zeros((2, 3), np.float16)
    soft_targets._copy_padded(target, [1.0, 2.0], -np.inf)
    assert target.tolist() == [[1.0, -np.inf, -np.inf], [2.0, -np.inf, -np.inf]]


def test_an_unpacked_student_has_the_losses_of_a_packed_one(
    project: Path, tiny_llama: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, max_steps=4, **distil_from(teacher, share=1.0))

    def losses() -> list[float]:
        stage.run(config)
        points = [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]
        return [point["loss"] for point in points if "loss" in point]

    expected = losses()
    monkeypatch.setattr("tasks.finetune.model.build.use_packed_attention", lambda *_: False)
    assert losses() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["window", "unpacked"])
def test_a_teacher_without_support_for_packed_rows_computes_single_examples(
    kind: str, project: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its targets are those of its own attention: with a window of 16 tokens, or without support for packed rows."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig

    folder, tokenizer = tmp_path / "mistral", AutoTokenizer.from_pretrained(tiny_llama)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    window = 16 if kind == "window" else None
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        MistralConfig(
            vocab_size=len(tokenizer), num_key_value_heads=2, sliding_window=window, initializer_range=0.3, **size
        )
    )
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kind == "unpacked":
        monkeypatch.setattr(soft_targets, "use_packed_attention", lambda *_: False)
    stage.run(prepare(project, tiny_llama, max_steps=1, **distil_from(folder, top_tokens=8)))
    stored = {
        row["key"]: row for path in paths.SOFT_TARGETS.glob("*/*.parquet") for row in pq.read_table(path).to_pylist()
    }
    rows, seen = PackedRows(read_rendered("train")), 0
    for row in (rows[place] for place in range(len(rows))):
        ends = np.cumsum([0, *row["lengths"]])
        for (start, end), (key, count) in zip(itertools.pairwise(ends), soft_targets._examples(row), strict=True):
            positions = row["loss_mask"][start:end].nonzero()[0] - 1
            with torch.no_grad():
                own = (
                    model(torch.tensor(row["input_ids"][start:end].astype(int))[None])
                    .logits[0, positions]
                    .log_softmax(-1)
                )
            ids = torch.tensor(stored[key]["top_ids"]).view(count, -1).long()
            stored_values = torch.tensor(stored[key]["top_log_probabilities"]).view(count, -1)
            torch.testing.assert_close(own.gather(-1, ids), stored_values, rtol=2e-2, atol=2e-2)
            seen += count
    assert seen > 100
