"""RMS norms in one call have the bits of the model's own, and are used only then."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tasks.inference.norms import quick_norms


def test_norms_and_logits_keep_their_bits(llama: Any) -> None:
    model, _ = llama
    ids = torch.arange(1, 20)[None]
    with torch.inference_mode():
        expected = model(ids).logits
        with quick_norms(model) as count:
            assert count == 2 * len(model.model.layers) + 1
            assert torch.equal(model(ids).logits, expected)
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_norm_that_computes_something_else_stays_as_it_is(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = llama
    norm = type(model.model.norm)
    own = norm.forward
    monkeypatch.setattr(norm, "forward", lambda self, states: own(self, states) + states)
    with quick_norms(model) as count:
        assert count == 0


def test_norms_of_models_without_rms_and_of_other_precisions_stay_as_they_are(gpt2: Any, qwen: Any) -> None:
    with quick_norms(gpt2[0]) as count:
        assert count == 0
    with quick_norms(qwen[0]) as count:
        assert count == 4 * 2 + 1, "those of queries and keys too"
    norm = type(qwen[0].model.norm)(16).to(torch.bfloat16)
    with quick_norms(torch.nn.Sequential(norm)) as count:
        assert count == 0
