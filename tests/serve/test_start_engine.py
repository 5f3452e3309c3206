"""A prepared version becomes an engine in a process of its own, with what its evaluation used."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.config import parse_config
from tasks.model_store.ledger_entries import Entry
from tasks.serve.engine.client import WorkerEngine
from tasks.serve.engine.messages import WorkerSpec
from tasks.serve.engine.request import EngineLost
from tasks.serve.versions.loaded import VersionRefused
from tasks.serve.versions.prepare import PreparedVersion
from tasks.serve.versions.start_engine import start_engine

SECTIONS = ("curate", "render", "finetune", "evaluate", "gate", "promote", "validate")
DOCUMENT = {
    **{name: {} for name in SECTIONS},
    "base": {"model": "gpt2"},
    "ingest": {"sources": []},
    "register": {"model_name": "tiny"},
}


def start(receipt: dict[str, Any]) -> Any:
    entry = Entry("judged", 3, "a" * 64, "b" * 64, "c" * 64, "d" * 32, True, 1, 4, "test", "2026-01-01", "")
    prepared = PreparedVersion("模型@v3", entry, Path("folder"), None, receipt)
    return asyncio.run(start_engine(parse_config(json.loads(json.dumps(DOCUMENT))), prepared))


def test_an_engine_has_the_precision_the_engine_and_the_limit_of_the_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specs: list[WorkerSpec] = []

    async def started(spec: WorkerSpec) -> str:
        specs.append(spec)
        return "engine"

    monkeypatch.setattr(WorkerEngine, "start", started)
    metrics = {"precision": "bf16", "inference": {"name": "server"}}
    assert start({"metrics": metrics, "params": {"evaluate": {"max_new_tokens": 9}}}) == "engine"
    start({})
    first, second = specs
    assert (first.folder, first.base["model"]) == ("folder", "gpt2")
    assert (first.precision, first.engine, first.max_new_tokens) == ("bf16", "server", 9)
    assert (second.precision, second.engine, second.max_new_tokens) == ("fp32", "embedded", 64)


def test_a_version_that_its_engine_cannot_load_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(spec: WorkerSpec) -> None:
        raise EngineLost("内存不足.")

    monkeypatch.setattr(WorkerEngine, "start", lost)
    with pytest.raises(VersionRefused, match=r"^模型@v3 cannot be loaded: 内存不足$"):
        start({})
