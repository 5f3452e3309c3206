"""A version of a whole project enters service behind another engine: its own rows, a check in a process, registry and audit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from support import toyworld
from support.toyvllm import Faults, ToyVllm

from tasks.audit.served import check_served
from tasks.audit.stage import auditing
from tasks.base.generation import answer_reader
from tasks.base.load import load_tokenizer, load_trained
from tasks.base.pin import read_base
from tasks.config import load_config
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.model_store.versions import version_receipt, weights_folder
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.request import Finished, Request, Sampling, TextPrompt
from tasks.serve.served_path.enter import CheckedEngines
from tasks.serve.served_path.job import Job, publish, run
from tasks.serve.served_path.record import ServedCheck
from tasks.serve.served_path.rows import CheckRow
from tasks.serve.versions.factory import engine_factory
from tasks.serve.versions.loaded import VersionRefused

pytestmark = [pytest.mark.usefixtures("warm"), pytest.mark.slow]


def greedy(model: Any, prompt: list[int], ends: set[int], count: int) -> list[Any]:
    tokens: list[Any] = []
    ids = [*prompt]
    while len(tokens) < count and not (tokens and tokens[-1][0] in ends):
        with torch.inference_mode():
            values = model(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
        best = values.topk(5)
        top = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        tokens.append((int(best.indices[0]), float(best.values[0]), top))
        ids.append(tokens[-1][0])
    return tokens


def row(model: Any, tokenizer: Any, number: int, limit: int) -> CheckRow:
    prompt = tokenizer.encode(f"Question {number}: 谁？")
    tokens = greedy(model, prompt, {tokenizer.eos_token_id}, limit)
    answer = answer_reader(tokenizer)([token for token, _, _ in tokens])
    return CheckRow(f"{number:032x}", "qa", "qa", prompt, answer or "-", answer, is_target_too_long=True)


async def no_engine(config: Any, prepared: Any) -> Any:
    raise AssertionError("the embedded engine was started")


async def carried_out_here(engines: CheckedEngines, job: Job) -> ServedCheck:
    check = await asyncio.to_thread(run, job)
    await asyncio.to_thread(publish, check)
    return check


def test_a_version_enters_service_after_its_check_which_registry_and_audit_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toyworld.stand_in("serving", tmp_path, monkeypatch)
    config = load_config()
    entry = champion_of(read_ledger("tiny"))
    assert entry is not None
    folder = weights_folder("tiny", entry.version, entry.weights_digest)
    receipt = version_receipt("tiny", entry.version)
    assert receipt is not None
    model, tokenizer = load_trained(folder, read_base(), "fp32"), load_tokenizer(folder)
    limit = receipt["params"]["evaluate"]["max_new_tokens"]

    def respond(path: str, prompt: list[int]) -> list[Any]:
        if path:
            return greedy(model, prompt, {tokenizer.eos_token_id}, limit + 1)
        with model.disable_adapter():
            return greedy(model, prompt, {tokenizer.eos_token_id}, limit + 1)

    toy = ToyVllm(tokenizer, respond)
    engine = EngineSettings(kind="url", base_url=toy.base_url)
    gate = config.gate.model_copy(update={"margin": 0.5, "min_rows": 5})
    config = config.model_copy(update={"serve": config.serve.model_copy(update={"engine": engine}), "gate": gate})
    factory = engine_factory(config, no_engine)

    async def answer() -> str:
        loaded = await factory.load(entry)
        try:
            request = Request("r", TextPrompt("Hello"), Sampling(max_tokens=4))
            events = [event async for event in loaded.answer(request)]
            return next(event.text for event in events if isinstance(event, Finished))
        finally:
            await loaded.close()

    with pytest.raises(VersionRefused, match=r"cannot be carried out: .* has no data/rendered"):  # by its process
        asyncio.run(answer())
    rows = [row(model, tokenizer, number, limit) for number in range(8)]
    monkeypatch.setattr("tasks.serve.served_path.rows.rows_of_version", lambda commit: rows)
    monkeypatch.setattr(CheckedEngines, "_carry_out", carried_out_here)
    toy.faults = Faults(ignores_adapters=True)
    with pytest.raises(VersionRefused, match="ignores the adapter"):
        asyncio.run(answer())
    with pytest.raises(VersionRefused, match="ignores the adapter"):  # without another check
        asyncio.run(answer())
    for path in Path(".strop/serve/checks").iterdir():
        path.unlink()
    toy.faults = Faults()
    assert isinstance(asyncio.run(answer()), str)
    with auditing(config, entry.version) as subject:
        link = check_served(subject)
    assert link.ok
    assert "vllm 0.11.0 unknown" in link.detail
    assert link.detail.endswith("passed")
    toy.close()
