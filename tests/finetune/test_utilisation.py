"""Room `finetune`: the operations of a training are counted as they are done."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from test_finetune import prepare

from tasks import paths
from tasks.base.load import load_base
from tasks.base.resolve import read_base
from tasks.finetune.model import build_model
from tasks.finetune.objectives import Work
from tasks.finetune.utilisation import epoch_flops
from tasks.rendered import read_rendered

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
    return epoch_flops(model, train) - passes * head.weight.numel() * int(train.loss_mask.sum())


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


def test_a_layer_in_four_bits_has_the_weights_that_it_stands_for(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama)
    model = load_base(read_base()).requires_grad_(False)
    train, expected = read_rendered("train"), epoch_flops(model, read_rendered("train"))
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(torch.zeros(layer.weight.numel() // 2, 1), requires_grad=False)  # as packed
    assert epoch_flops(model, train) == expected
