"""Room `finetune`: the FLOPs of a training are counted correctly."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import toy_classes, toypreferences
from support.toy_training import prepare
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tasks import paths
from tasks.base.load import load_base
from tasks.base.pin import read_base
from tasks.dataset.rendered import read_rendered
from tasks.finetune import stage
from tasks.finetune.model.build import build_model
from tasks.finetune.step import mfu
from tasks.finetune.step.mfu import epoch_flops
from tasks.finetune.work import Work

LAYER = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
"""Weights of a layer's linear parts in the tiny Llama."""
HEAD_WIDTH_X_HEADS = 64


def squares() -> float:
    """Sum of the squared lengths of the examples."""
    examples = read_rendered("train").examples.tolist()
    return float(sum((end - start) ** 2 for start, end in itertools.pairwise(examples)))


def counted(model: Any) -> float:
    """Operations of all but the head."""
    train, head = read_rendered("train"), model.get_output_embeddings()
    others = any(value.requires_grad for value in model.parameters() if value is not head.weight)
    passes = 2 + 2 * others + 2 * head.weight.requires_grad
    learned = int(train.loss_mask.sum())
    return epoch_flops(model, np.diff(train.examples), learned) - passes * head.weight.numel() * learned


def test_a_slow_matrix_product_is_measured_with_small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []
    for flops in (1e9, 1e12):
        monkeypatch.setattr(mfu, "_product_flops", lambda side, *_, flops=flops: sides.append(side) or float(flops))
        assert mfu.matmul_flops.__wrapped__(torch.bfloat16, "cpu") == flops
    assert sides == [mfu.SMALL_SIDE, mfu.SMALL_SIDE, mfu.SIDE]


@pytest.mark.parametrize(
    ("chosen", "lower", "upper", "attention"),
    [
        ({"last_layers": 1}, 2, 6, 2 + 6),
        ({"last_layers": 2}, 6, 6, 6 + 6),
        ({"last_layers": 1, "embeddings": True}, 4, 6, 6 + 6),
        ({"last_layers": 0, "modules": ["model.norm"]}, 2, 2, 2 + 2),
    ],
    ids=str,
)
def test_layers_below_the_lowest_trained_one_have_no_backward_pass(
    chosen: dict[str, Any], lower: int, upper: int, attention: int, project: Path, tiny_llama: Path
) -> None:
    config = prepare(project, tiny_llama, method="freeze", freeze=chosen)
    tokens = len(read_rendered("train").input_ids)
    expected = (lower + upper) * LAYER * tokens + attention * squares() * HEAD_WIDTH_X_HEADS
    assert (
        counted(build_model(Work(config.finetune, read_base(), "fp32", paths.CHECKPOINTS), is_packed=True)) == expected
    )


def test_a_layer_with_an_adapter_is_counted_once(project: Path, tiny_llama: Path) -> None:
    config = prepare(project, tiny_llama, lora={"rank": 1})
    model = build_model(Work(config.finetune, read_base(), "fp32", paths.CHECKPOINTS), is_packed=True)
    adapters = sum(value.numel() for value in model.parameters() if value.requires_grad)
    tokens = len(read_rendered("train").input_ids)
    expected = (2 * 4 * LAYER + 6 * adapters) * tokens + 12 * squares() * HEAD_WIDTH_X_HEADS
    assert counted(model) == expected


def test_a_layer_in_four_bits_counts_its_unpacked_weights(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama)
    model = load_base(read_base()).requires_grad_(False)
    lengths = np.diff(read_rendered("train").examples)
    expected = epoch_flops(model, lengths, 9)
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(torch.zeros(layer.weight.numel() // 2, 1), requires_grad=False)  # as packed
    assert epoch_flops(model, lengths, 9) == expected


def test_a_classification_head_counts_once_per_sequence_and_an_extra_pass_has_no_backward_pass(
    tiny_llama: Path,
) -> None:
    causal = AutoModelForCausalLM.from_pretrained(tiny_llama)
    classifier = AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=3)
    lengths = np.array([10, 20])
    attention = (100 + 400) * HEAD_WIDTH_X_HEADS
    assert epoch_flops(classifier, lengths, 2) == 6 * (2 * LAYER * 30 + 3 * 64 * 2) + 12 * attention
    head = causal.get_output_embeddings().weight.numel()
    extra = epoch_flops(causal, lengths, 5, extra_passes=2) - epoch_flops(causal, lengths, 5)
    assert extra == 2 * (2 * (2 * LAYER * 30 + head * 5) + 4 * attention)


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto", "reward", "classify"])
def test_every_objective_with_given_tokens_reports_its_utilisation(
    objective: str, project: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepares = toy_classes.prepare if objective == "classify" else toypreferences.prepare
    stage.run(prepares(project, tiny_llama, objective=objective, max_steps=2, micro_batch_rows=2))
    assert re.search(r"GFLOP/s: \d+% of a fp32 matrix product here", capsys.readouterr().err)
