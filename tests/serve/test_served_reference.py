"""The whole job of a served-path check, with a tiny Llama and its adapter behind a toy server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.toyvllm import BASE, Faults, ToyVllm

from tasks.base.load import load_tokenizer, load_weights
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.remote_version import RemoteVersion
from tasks.serve.served_path.comparison import Policy
from tasks.serve.served_path.job import Job, run
from tasks.serve.served_path.record import identity_of, read_check
from tasks.serve.served_path.reference import logprobs_of
from tasks.serve.served_path.rows import CheckRow

TOKENS = 6


@dataclass
class World:
    toy: ToyVllm
    job: Job
    model: Any


def make_adapter(base: Path, folder: Path) -> Any:
    """An adapter with random weights on the tiny Llama, saved with its tokenizer."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(load_weights(base), config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=2.0)
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return model.eval()


def greedy(model: Any, prompt: list[int]) -> list[Any]:
    tokens: list[Any] = []
    ids = [*prompt]
    for _ in range(TOKENS):
        with torch.inference_mode():
            values = model(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
        best = values.topk(3)
        tokens.append(
            (
                int(best.indices[0]),
                float(best.values[0]),
                dict(zip(best.indices.tolist(), best.values.tolist(), strict=True)),
            )
        )
        ids.append(tokens[-1][0])
    return tokens


@pytest.fixture
def world(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = tmp_path / "adapter"
    model, tokenizer = make_adapter(tiny_llama, folder), load_tokenizer(tiny_llama)

    def respond(path: str, prompt: list[int]) -> list[Any]:
        if path:
            return greedy(model, prompt)
        with model.disable_adapter():
            return greedy(model, prompt)

    toy = ToyVllm(tokenizer, respond)
    version = RemoteVersion("toy", 7, "d" * 64, folder, tiny_llama, "fp32", TOKENS)
    toy.adapters[version.name] = str(folder)
    prompts = [tokenizer.encode(f"第 {number} text") for number in range(8)]
    answers = [
        tokenizer.decode([t for t, _, _ in greedy(model, prompt)], skip_special_tokens=True).strip()
        for prompt in prompts
    ]
    rows = [
        CheckRow(
            f"{place:032x}",
            "qa",
            "free",
            prompts[place % 8],
            answers[place % 8],
            answers[place % 8],
            is_target_too_long=True,
        )
        for place in range(80)
    ]
    monkeypatch.setattr("tasks.serve.served_path.rows.rows_of_version", lambda commit: rows)
    monkeypatch.setattr("tasks.serve.served_path.reference.load_trained", lambda *_: model)
    settings = EngineSettings(kind="url", base_url=toy.base_url)
    identity = identity_of("vllm 0.11.0", "fp32", settings)
    base = {"id": "tiny", "revision": "", "kind": "folder", "files": {}}
    job = Job(
        version, "c" * 40, base, identity, Policy(), toy.base_url, version.name, BASE, None, 5.0, tmp_path / "check.json"
    )  # fmt: skip
    yield World(toy, job, model)
    toy.close()


def test_a_server_with_the_adapter_passes_and_one_that_ignores_it_does_not(world: World) -> None:
    check = run(world.job)
    assert (check.passed, check.reason) == (True, "")
    assert check.probe["distance"] < 1e-4
    assert check.probe["effect"] > 0.05
    assert check.comparison is not None
    assert check.comparison["equal"] == 80
    stored = read_check(world.job.result)
    assert stored is not None
    assert stored.as_json() == check.as_json() | {"comparison": stored.comparison}
    world.toy.faults = Faults(ignores_adapters=True)
    assert "ignores the adapter" in run(world.job).reason


def test_log_probabilities_are_those_of_decoding(world: World) -> None:
    prompt = [5, 6, 7]
    served = world.toy.respond("adapter", prompt)
    values = logprobs_of(world.model, prompt, [token for token, _, _ in served])
    assert values == pytest.approx([value for _, value, _ in served], abs=1e-4)
