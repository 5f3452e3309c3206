"""Size, times and cost of a model: numbers for the policy, of which the times are off by default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.base.generation import Answer
from tasks.base.pin import BaseRecord, pin_base
from tasks.base.settings import BaseSettings
from tasks.evaluate.latency import choose_sample, describe_times, generated_tokens
from tasks.evaluate.model_size import model_size
from tasks.evaluate.settings import EvaluateSettings


def write_weights(file: Path, **shapes: list[int]) -> None:
    """A safetensors file with only a header."""
    header = json.dumps(
        {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    )
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode())


def test_an_adapter_has_its_own_size_and_a_total_with_the_base(
    tiny_gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(tmp_path)
    record = pin_base(BaseSettings(model=str(tiny_gpt2)))
    of_base = AutoModelForCausalLM.from_pretrained(tiny_gpt2).num_parameters()
    assert model_size(None, record)["parameters"] == model_size(None, record)["total_parameters"] == of_base
    write_weights(tmp_path / "full" / "model.safetensors", a=[3, 4], b=[5])
    write_weights(tmp_path / "adapter" / "adapter_model.safetensors", a=[2, 4])
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert model_size(tmp_path / "full", record)["total_parameters"] == 17
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert model_size(tmp_path / "adapter", record) == {"bytes": size, "parameters": 8, "total_parameters": 8 + of_base}


def test_only_the_files_that_are_loaded_count(tmp_path: Path) -> None:
    record = BaseRecord("toy", "folder", None, {})
    sharded, both = tmp_path / "sharded", tmp_path / "both"
    for number in (1, 2):
        write_weights(sharded / f"model-0000{number}-of-00002.safetensors", a=[number])
    for extra in ("model.fp16.safetensors", "consolidated.safetensors", "model-00003-of-00003.safetensors"):
        write_weights(sharded / extra, a=[100])
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert model_size(sharded, record)["parameters"] == 3
    write_weights(both / "model.safetensors", a=[5])
    write_weights(both / "consolidated.safetensors", a=[100])
    assert model_size(both, record)["parameters"] == 5


def test_times_have_a_median_and_a_spread_and_a_price() -> None:
    measured = describe_times([1.0, 2.0, 3.0], [10, 10, 10], price_per_hour=7.2)
    assert measured["latency"]["answer_s"] == {"p5": 1.1, "median": 2.0, "p95": 2.9}
    assert measured["latency"]["tokens_per_s"]["median"] == 5.0
    assert measured["cost"] == {"per_1000_answers": 4.0}, "2 s per answer, 0.002 per second"
    assert "cost" not in describe_times([1.0], [1], None)


def test_an_answer_that_was_cut_off_has_all_its_tokens_whatever_its_text() -> None:
    def tokenizer(text: str, add_special_tokens: bool) -> dict[str, list[str]]:
        return {"input_ids": text.split()}

    assert generated_tokens(Answer("", is_cut=True), tokenizer, 32) == 32, "white space or special tokens to the limit"
    assert generated_tokens(Answer("two words", is_cut=False), tokenizer, 32) == 3, "with the end token"


def test_the_sample_has_prompts_of_all_lengths_whatever_their_order() -> None:
    prompts = [[7] * length for length in range(1, 101)]
    assert [len(prompt) for prompt in choose_sample(prompts, 4)] == [100, 75, 50, 25]
    assert choose_sample(prompts[::-1], 4) == choose_sample(prompts, 4)
    assert len(choose_sample(prompts[:2], 4)) == 2
    assert EvaluateSettings().latency_rows == 0
