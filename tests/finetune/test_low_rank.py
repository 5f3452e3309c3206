"""Our LoRA layers equal PEFT's, in value and gradient, and leave unsupported cases to PEFT."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.toy_training import prepare

from tasks import paths
from tasks.finetune import stage
from tasks.finetune.model import build as models
from tasks.finetune.step.lora_linear import use_fast_lora


class TwoLayers(torch.nn.Module):
    """Two layers with the same input, one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(12, 20), torch.nn.Linear(12, 20, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) * self.second(x)


def adapted(dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[Any, Any]:
    """The same adapters twice: with PEFT's layers, and with ours."""
    torch.manual_seed(0)
    plain = get_peft_model(
        TwoLayers().to(dtype), LoraConfig(r=3, lora_alpha=7, target_modules=["first", "second"], **settings)
    )
    for name, value in plain.named_parameters():
        if "lora_" in name:
            value.data = torch.randn_like(value, dtype=torch.float32)
    ours = copy.deepcopy(plain)
    use_fast_lora(ours)
    return plain, ours


def is_ours(model: Any) -> bool:
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    has_own_forward = {"forward" in layer.__dict__ for layer in layers}
    assert len(has_own_forward) == 1
    return has_own_forward.pop()


def output_and_gradients(model: Any, x: torch.Tensor, is_cast: bool = False) -> list[torch.Tensor]:
    """The output, and the gradients of the input and of every adapter."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_cast):
        output = model(x)
    output.float().square().sum().backward()
    gradients = [x.grad, *(value.grad for value in model.parameters() if value.requires_grad)]
    assert len(gradients) == 5
    return [output.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("shape", [(4, 12), (2, 5, 12), (1, 12)], ids=str)
def test_value_and_gradients_are_pefts(shape: tuple[int, ...]) -> None:
    plain, ours = adapted()
    assert is_ours(ours)
    x = torch.randn(shape)
    for one, other in zip(output_and_gradients(plain, x), output_and_gradients(ours, x), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("base", [torch.bfloat16, torch.float32], ids=str)
def test_under_autocast_they_are_pefts_but_for_rounding_and_of_the_same_types(base: torch.dtype) -> None:
    plain, ours = adapted(base)
    x = torch.randn(6, 12).to(base)
    for one, other in zip(
        output_and_gradients(plain, x, is_cast=True), output_and_gradients(ours, x, is_cast=True), strict=True
    ):
        assert one.dtype == other.dtype
        assert (one.float() - other.float()).norm() < 0.03 * one.float().norm()


def test_the_shared_input_of_two_layers_is_saved_once_for_the_backward_pass() -> None:
    kept: list[int] = []
    x = torch.randn(6, 12, dtype=torch.bfloat16)
    _, ours = adapted(torch.bfloat16)
    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(
            lambda value: kept.append(value.data_ptr()) or value, lambda value: value
        ),
    ):
        ours(x)
    assert kept.count(x.data_ptr()) == 2


def test_without_its_adapter_or_with_another_one_a_layer_uses_pefts_forward() -> None:
    plain, ours = adapted()
    x = torch.randn(4, 12)
    with plain.disable_adapter(), ours.disable_adapter():
        assert torch.equal(plain(x), ours(x))
    for model in (plain, ours):
        torch.manual_seed(1)
        model.add_adapter("other", LoraConfig(r=2, target_modules=["first", "second"], init_lora_weights=False))
    for active in ("other", ["default", "other"], "default"):
        for model in (plain, ours):
            model.base_model.set_adapter(active)
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-4)
    for model in (plain, ours):
        model.merge_adapter()
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}], ids=str)
def test_layers_beyond_plain_lora_keep_pefts_forward(settings: dict[str, Any]) -> None:
    assert not is_ours(adapted(**settings)[1])


def test_a_layers_output_may_be_changed_in_place_and_the_model_pickled() -> None:
    """OLMo clamps its queries so."""
    plain, ours = adapted()
    x = torch.randn(2, 4, 12)
    for model in (plain, ours):
        model.base_model.model.first(x).clamp_(-1, 1).sum().backward()
    assert torch.equal(pickle.loads(pickle.dumps(ours))(x), ours(x))


def test_outside_autocast_fp32_adapters_on_a_bf16_base_keep_pefts_forward() -> None:
    plain, ours = adapted(torch.bfloat16)
    x = torch.randn(4, 12).bfloat16()
    assert torch.equal(plain(x), ours(x))


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_weights_keep_pefts_forward(
    name: str, project: Any, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "true")
    monkeypatch.setattr(models, "use_fast_lora", lambda _: pytest.fail("its weights are sharded"))
    assert models.is_sharded()
    from peft import PeftModel

    from tasks.base.load import load_base
    from tasks.base.pin import read_base

    config = prepare(project, tiny_llama)
    model = models._with_adapters(load_base(read_base()), config.finetune, "CAUSAL_LM")
    assert isinstance(model, PeftModel)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_has_the_curve_of_pefts_layers(
    checkpointing: bool, project: Any, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    config = prepare(project, tiny_llama, max_steps=6, gradient_checkpointing=checkpointing)
    curves = []
    for is_ours_used in (True, False):
        if not is_ours_used:
            monkeypatch.setattr(models, "use_fast_lora", lambda _: None)
        stage.run(config)
        lines = (paths.MODEL / "curves.jsonl").read_text().splitlines()
        curves.append([point["loss"] for point in map(json.loads, lines) if "loss" in point])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
