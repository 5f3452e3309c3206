"""Batched attention of short examples equals that of single examples, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.finetune.step import cpu_attention
from tasks.finetune.step.cpu_attention import attend_in_batches, is_short

WIDTH = 8


def single_examples(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int], prompt: int
) -> torch.Tensor:
    """PyTorch's own attention of each example with its prompt: [tokens, heads, width]."""
    outputs, start = [], prompt
    for number, length in enumerate(lengths):
        own = [
            torch.cat([states[:, :, :prompt], states[:, :, start : start + length]], 2)
            for states in (query, key, value)
        ]
        attended = torch.nn.functional.scaled_dot_product_attention(*own, scale=0.3, is_causal=True, enable_gqa=True)
        outputs.append(attended[0].transpose(0, 1)[0 if number == 0 else prompt :])
        start += length
    return torch.cat(outputs)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    prompt=st.sampled_from([0, 1, 9]),
    heads=st.sampled_from([(4, 4), (4, 2), (6, 1), (1, 1)]),
)
@settings(max_examples=60, deadline=None)
def test_batched_attention_equals_that_of_single_examples(
    lengths: list[int], prompt: int, heads: tuple[int, int]
) -> None:
    draw = torch.Generator().manual_seed(0)
    tokens = prompt + sum(lengths)
    states = [
        torch.randn(1, tokens, count, WIDTH, generator=draw).transpose(1, 2).requires_grad_()
        for count in (heads[0], heads[1], heads[1])
    ]
    weights = torch.randn(tokens, heads[0], WIDTH, generator=draw)
    results = []
    for attended in (single_examples(*states, lengths, prompt), attend_in_batches(*states, lengths, prompt, 0.3)):
        results.append([attended.detach(), *torch.autograd.grad((attended * weights).sum(), states)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_cast", [False, True], ids=["bf16", "autocast"])
def test_attention_in_bf16_is_close_to_fp32(is_cast: bool) -> None:
    draw = torch.Generator().manual_seed(1)
    states = [torch.randn(1, count, 30, WIDTH, generator=draw) for count in (4, 2, 2)]
    exact = attend_in_batches(*states, [10, 12], 8, 0.3)
    narrow = [value.bfloat16().requires_grad_() for value in states]
    with torch.autocast("cpu", torch.bfloat16, enabled=is_cast):
        attended = attend_in_batches(*narrow, [10, 12], 8, 0.3)
    assert attended.dtype == torch.bfloat16
    torch.testing.assert_close(attended.float(), exact, rtol=0.05, atol=0.05)
    attended.sum().backward()
    assert all(value.grad is not None and value.grad.dtype == torch.bfloat16 for value in narrow)


def test_long_examples_use_the_fused_kernel() -> None:
    wide, narrow = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)
    assert is_short(800, narrow)
    assert is_short(100, wide)
    assert not is_short(4000, narrow)
    assert not is_short(800, wide)
    assert not is_short(10, torch.zeros(1, dtype=torch.float16))
    with torch.autocast("cpu", torch.bfloat16):
        assert is_short(800, wide)


@pytest.mark.parametrize("kinds", [("float32", "float32", "bfloat16"), ("bfloat16", "bfloat16", "float32")], ids=str)
def test_queries_keys_and_values_of_mixed_dtypes_are_computed_in_one(kinds: tuple[str, ...]) -> None:
    """Under autocast, a norm in fp32 returns queries and keys in fp32 (Qwen3, with trained norms)."""
    states = [torch.randn(1, 2, 9, WIDTH, dtype=getattr(torch, kind)).requires_grad_() for kind in kinds]
    with torch.autocast("cpu", torch.bfloat16):
        attended = attend_in_batches(*states, [4, 5], 0, 0.3)
    assert attended.dtype == torch.bfloat16
    attended.sum().backward()
    assert [each.grad is not None and each.grad.dtype == each.dtype for each in states] == [True] * 3


def test_values_may_have_another_width() -> None:
    query, key, value = (torch.randn(1, 4, 9, width) for width in (WIDTH, WIDTH, 5))
    expected = single_examples(query, key, value, [4, 5], 0)
    torch.testing.assert_close(attend_in_batches(query, key, value, [4, 5], 0, 0.3), expected, rtol=1e-4, atol=1e-5)


def test_a_common_offset_of_all_keys_costs_no_digits() -> None:
    """The keys of Qwen2 have a bias, which would take up most of the digits of scores in bf16."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 200, 64, generator=draw) for _ in range(3))
    bias = 30 * torch.randn(1, 2, 1, 64, generator=draw)
    exact = single_examples(query, key, value, [200], 0)
    narrow = (query.bfloat16(), (key.bfloat16() + bias.bfloat16()), value.bfloat16())
    rounded = single_examples(query.bfloat16().float(), narrow[1].float(), value, [200], 0)
    attended = attend_in_batches(*narrow, [200], 0, 0.3).float()
    assert exact.shape == attended.shape
    assert (attended - rounded).norm() < 0.02 * rounded.norm()


@pytest.mark.parametrize("prompt", [0, 3])
def test_long_examples_are_computed_in_blocks_without_saved_probabilities(
    prompt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "BLOCK_TOKENS", 8)
    draw = torch.Generator().manual_seed(0)
    lengths = [30, 5, 28, 2]
    states = [torch.randn(1, count, prompt + 65, WIDTH, generator=draw).requires_grad_() for count in (4, 2, 2)]
    expected, kept = single_examples(*states, lengths, prompt), []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value.shape) or value, lambda value: value):
        attended = attend_in_batches(*states, lengths, prompt, 0.3)
    assert {shape[-1] for shape in kept if len(shape) == 3 and shape[-2] > 10} == {WIDTH}
    weights = torch.randn(attended.shape, generator=draw)
    for one, other in zip(
        (expected, *torch.autograd.grad((expected * weights).sum(), states)),
        (attended, *torch.autograd.grad((attended * weights).sum(), states)),
        strict=True,
    ):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
