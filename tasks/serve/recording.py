"""The recorder of a server, from its start until everything is written.

async with recording(config, settings.record, metrics) as spooled:
    Gateway(settings, versions, keys, spooled or RecordsNothing(), spooled, metrics)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tasks import paths
from tasks.feedback.settings import RecordSettings
from tasks.serve.metrics import ServeMetrics
from tasks.serve.record.client import RecorderClient
from tasks.serve.record.start import Start
from tasks.serve.spooled import Spooled

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


@asynccontextmanager
async def recording(
    config: PipelineConfig, settings: RecordSettings, metrics: ServeMetrics
) -> AsyncIterator[Spooled | None]:
    """Starts the recorder; None if `serve.record.is_on` is false. It ends after the block, when all records are written."""
    if not settings.is_on:
        yield None
        return
    start = Start(str(paths.SPOOL), settings, config.curate.pii, config.retention.served_days)
    client = RecorderClient(start)
    await client.open()
    metrics.show_counts(
        "strop_records", "Records that were not written, and restarts of the recorder", lambda: client.counts
    )
    try:
        yield Spooled(client)
    finally:
        await client.close()
