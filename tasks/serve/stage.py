"""The server of a project: `strop serve`. It serves the champion of the ledger, and the next one when it changes.

run(config, start_engine)      # until SIGTERM or Ctrl-C

This process has neither torch nor MLflow: engines are processes of their own (docs/decisions/0041-gateway.md).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.serve.access.keys import KeyRing, open_key_ring
from tasks.serve.app.gateway import Gateway
from tasks.serve.app.interfaces import Recorder, RecordsNothing, Route
from tasks.serve.deliver.client import DelivererClient
from tasks.serve.metrics import ServeMetrics
from tasks.serve.record.problems import record_problems
from tasks.serve.recording import recording
from tasks.serve.server import GatewayServer, allow_files, listen
from tasks.serve.settings import ServeSettings
from tasks.serve.side_process import SideProcess
from tasks.serve.versions.ledger_watch import LedgerWatch
from tasks.serve.versions.loaded import EngineFactory
from tasks.serve.versions.versions import Versions
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)


def run(
    config: PipelineConfig,
    factory: EngineFactory,
    settings: ServeSettings | None = None,
    beside: Sequence[SideProcess] = (),
) -> None:
    """Serves until SIGTERM or Ctrl-C; then answers under way are completed.

    Args:
        settings: in place of `serve:` in params.yaml.
        beside: further processes, which run as long as the server.

    Raises:
        ConfigError: a key is missing.
        StropError: the port is used, or the project has no repository.
    """
    settings = settings or config.serve
    git.require_repository()
    keys = open_key_ring(settings.api_keys, paths.SERVE_KEY)
    allow_files(settings.limits.connections)
    for what, fix in record_problems(config):
        logger.warning(f"serve: {what}. {fix}")
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info(f"serve: http://{shown}:{port}/v1, its key is in {paths.SERVE_KEY}")
    asyncio.run(_with_processes(beside, _serve(config, factory, settings, keys, listener)))


async def _with_processes(beside: Sequence[SideProcess], work: Coroutine[Any, Any, None]) -> None:
    async with AsyncExitStack() as stack:
        for process in beside:
            await stack.enter_async_context(process)
        await work


async def _serve(
    config: PipelineConfig, factory: EngineFactory, settings: ServeSettings, keys: KeyRing, listener: socket.socket
) -> None:
    metrics = ServeMetrics()

    def count_swap(old: Route | None, new: Route) -> None:
        metrics.swaps.inc()

    versions = Versions(config.register_.model_name, factory, settings, count_swap, metrics.refusals.inc)
    watch = LedgerWatch(versions, config.register_.ledger_remote)
    async with DelivererClient(settings), recording(config, settings.record, metrics) as spooled:
        recorder: Recorder = spooled or RecordsNothing()
        works = [watch.run(), versions.follow()]
        if settings.shadow.share:
            from tasks.serve.shadow.shadow import Shadow  # has numpy

            recorder = shadow = Shadow(settings, versions, recorder, metrics, lambda: gateway.admission.load)
            works.append(shadow.run())
        gateway = Gateway(settings, versions, keys, recorder, spooled, metrics)
        works.append(GatewayServer(gateway).serve([listener]))
        try:
            await _until_one_ends(*works)
        finally:
            await versions.close()
    logger.info("serve: ended")


async def _until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Runs them together, and cancels the others when one ends."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
