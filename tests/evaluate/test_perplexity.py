"""Perplexity: the loss of answer tokens alone, whatever examples share a batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.dataset.rendered import Rendered
from tasks.evaluate.likelihood import text_losses
from tasks.evaluate.perplexity import Example, answer_losses, examples_of, max_input_tokens, perplexity
from tasks.evaluate.report import losses_by_family
from tasks.inference.engine import LogitsNotFinite


@pytest.fixture(scope="module")
def model(tiny_gpt2: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()


def example(rng: np.random.Generator, length: int, answer: int) -> Example:
    mask = np.zeros(length, np.uint8)
    mask[length - answer :] = 1
    return rng.integers(5, 250, length).astype(np.int32), mask


def loss_by_labels(model: Any, ids: np.ndarray, mask: np.ndarray) -> float:
    """The loss as transformers itself computes it, for one example alone."""
    import torch

    tokens = torch.tensor(ids, dtype=torch.long)[None]
    labels = tokens.where(torch.tensor(mask, dtype=torch.bool)[None], -100)
    with torch.inference_mode():
        return float(model(input_ids=tokens, labels=labels).loss) * int(mask[1:].sum())


def test_a_batch_gives_each_example_the_loss_it_has_alone(model: Any) -> None:
    rng = np.random.default_rng(0)
    examples = [example(rng, length, answer) for length, answer in ((30, 4), (7, 1), (200, 60), (12, 11), (400, 2))]
    losses = answer_losses(model, examples)
    for (ids, mask), (loss, tokens) in zip(examples, losses, strict=True):
        assert loss == pytest.approx(loss_by_labels(model, ids, mask), rel=1e-4)
        assert tokens == int(mask.sum())


def test_an_adapter_counts(model: Any, tiny_gpt2: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_gpt2)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)).eval()
    one = example(np.random.default_rng(1), 20, 6)
    ((loss, _),) = answer_losses(adapted, [one])
    assert loss == pytest.approx(loss_by_labels(adapted, *one), rel=1e-4)
    assert loss != pytest.approx(answer_losses(model, [one])[0][0], rel=1e-3)


def prompted(folder: Path, kind: str, virtual: int = 8) -> Any:
    """A model that reads a learned prompt, of random numbers, before each text."""
    import torch
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    shape = PromptTuningConfig if kind == "prompt" else PrefixTuningConfig
    base = AutoModelForCausalLM.from_pretrained(folder)
    return get_peft_model(base, shape(task_type="CAUSAL_LM", num_virtual_tokens=virtual)).eval()


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("base", ["tiny_gpt2", "tiny_llama"])
def test_a_learned_prompt_counts_and_does_not_shift_the_positions(
    kind: str, base: str, request: pytest.FixtureRequest
) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    model = prompted(request.getfixturevalue(base), kind)
    rng = np.random.default_rng(3)
    examples = [example(rng, length, answer) for length, answer in ((30, 4), (12, 11))]
    for (ids, mask), (loss, _) in zip(examples, answer_losses(model, examples), strict=True):
        tokens, counts = torch.tensor(ids, dtype=torch.long), torch.tensor(mask[1:], dtype=torch.bool)
        with torch.inference_mode():
            logits = model(input_ids=tokens[None], attention_mask=torch.ones_like(tokens[None])).logits[0, -len(ids) :]
        by_hand = cross_entropy(logits[:-1][counts], tokens[1:][counts], reduction="sum")
        assert loss == pytest.approx(float(by_hand), rel=1e-4)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_a_long_text_behind_a_learned_prompt_fits_the_model(kind: str, tiny_gpt2: Path) -> None:
    model = prompted(tiny_gpt2, kind)
    piece = model.config.max_position_embeddings - 8 - 1
    text = [5 + i % 200 for i in range(piece + 10)]
    whole, *parts = text_losses(model, [text, text[:piece], text[piece:]], [0])
    assert whole == pytest.approx(sum(parts), rel=1e-5)
    assert max_input_tokens(model) == piece + 1


def test_progress_counts_every_example(model: Any) -> None:
    finished: list[int] = []
    answer_losses(model, [example(np.random.default_rng(i), 300, 3) for i in range(5)], finished.append)
    assert sum(finished) == 5
    assert len(finished) > 1


def test_perplexity_is_by_token_and_none_without_tokens() -> None:
    assert perplexity([(2.0, 1), (4.0, 2)]) == pytest.approx(math.exp(2))
    assert perplexity([]) is None
    assert perplexity([(0.0, 0)]) is None
    assert math.isfinite(perplexity([(1e9, 1)]) or math.nan)


def test_losses_are_averaged_over_the_tokens_of_a_family() -> None:
    result = losses_by_family([(2.0, 1), (4.0, 2), (9.0, 3), (0.0, 0)], ["qa", "qa", "topic", "empty"])
    assert result == {
        "qa": {"loss": 2.0, "perplexity": 7.38906, "tokens": 3},
        "topic": {"loss": 3.0, "perplexity": 20.0855, "tokens": 3},
    }


def test_an_example_without_an_answer_has_no_loss(model: Any) -> None:
    assert answer_losses(model, [(np.arange(5, dtype=np.int32), np.zeros(5, np.uint8))]) == [(0.0, 0)]


def test_a_model_that_computes_nan_has_no_losses_and_no_likelihoods(model: Any) -> None:
    import copy

    import torch

    damaged, rng = copy.deepcopy(model), np.random.default_rng(3)
    with torch.no_grad():
        next(iter(damaged.parameters())).fill_(float("nan"))
    with pytest.raises(LogitsNotFinite):
        answer_losses(damaged, [example(rng, 9, 3)])
    with pytest.raises(LogitsNotFinite):
        text_losses(damaged, [[5, 6, 7]], start=[1])


def test_packed_rows_are_split_into_examples() -> None:
    flat = np.arange(10, dtype=np.int32)
    rendered = Rendered(
        flat,
        (flat % 2).astype(np.uint8),
        np.array([0, 3, 4, 10]),
        np.array([0, 0, 1]),
        np.array(["a", "b", "c"], "S32"),
    )
    assert [ids.tolist() for ids, _ in examples_of(rendered)] == [[0, 1, 2], [3], [4, 5, 6, 7, 8, 9]]
