"""Linear layers with packed weights compute the same products, and are restored."""

from __future__ import annotations

import platform

import pytest
import torch

from tasks.inference import packed_linear
from tasks.inference.packed_linear import packed_linears


def model_of(width: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(width, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8, bias=False))


def test_products_are_the_same_and_each_row_is_independent_of_the_others() -> None:
    model, inputs = model_of(128), torch.randn(3, 32, 128)
    with torch.inference_mode():
        expected = model(inputs)
        with packed_linears(model) as count:
            assert count == int(platform.machine() in packed_linear.MEASURED_ON), "the other layer is too small"
            packed = model(inputs)
            assert torch.equal(model(inputs[:1, :8]), packed[:1, :8])
        torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(model(inputs), expected)


def test_layers_are_restored_after_an_error() -> None:
    model = model_of(128)
    with pytest.raises(KeyError), packed_linears(model):
        raise KeyError
    assert "forward" not in vars(model[0])  # type: ignore[index]


def test_large_models_and_other_precisions_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with packed_linears(model_of(128).double()) as count:
        assert count == 0
    monkeypatch.setattr(packed_linear, "MAX_BYTES", 1000)
    with packed_linears(model_of(128)) as count:
        assert count == 0
