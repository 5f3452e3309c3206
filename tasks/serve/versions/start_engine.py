"""Starts the embedded engine of a prepared version. Which engine serves: factory.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import one_line
from tasks.serve.engine.request import EngineLost, OnlineEngine
from tasks.serve.versions.loaded import VersionRefused
from tasks.serve.versions.prepare import PreparedVersion

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


async def start_engine(config: PipelineConfig, prepared: PreparedVersion) -> OnlineEngine:
    """The embedded engine, in a process of its own, in the precision and with the token limit of the evaluation.

    Raises:
        VersionRefused: it cannot be loaded there.
    """
    from tasks.serve.engine.client import WorkerEngine
    from tasks.serve.engine.messages import WorkerSpec

    metrics = prepared.receipt.get("metrics") or {}
    evaluate = (prepared.receipt.get("params") or {}).get("evaluate") or {}
    spec = WorkerSpec(
        folder=str(prepared.folder),
        base=config.base.model_dump(mode="json"),
        precision=metrics.get("precision", "fp32"),
        max_new_tokens=evaluate.get("max_new_tokens", config.evaluate.max_new_tokens),
        engine=(metrics.get("inference") or {}).get("name", "embedded"),
        plugins=config.plugins,
    )
    try:
        return await WorkerEngine.start(spec)
    except EngineLost as error:
        raise VersionRefused(f"{prepared.name} cannot be loaded: {one_line(error).rstrip('.')}") from error
