"""Versions behind an engine outside of this process (`serve.engine`), each checked before it enters service.

engine = await OutsideEngines(config).start(config, prepared)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tasks.errors import StropError
from tasks.model_store.versions import commit_of
from tasks.serve.engine.request import OnlineEngine
from tasks.serve.served_path.enter import CheckedEngines, remote_version_of
from tasks.serve.versions.loaded import VersionRefused
from tasks.serve.versions.prepare import PreparedVersion

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


class OutsideEngines:
    """The servers of a gateway. Each ends with the last version in it."""

    def __init__(self, config: PipelineConfig) -> None:
        self._checked = CheckedEngines(config)

    async def start(self, config: PipelineConfig, prepared: PreparedVersion) -> OnlineEngine:
        """Raises VersionRefused if it cannot be loaded there, or its served-path check did not pass."""
        number, receipt = prepared.entry.version, prepared.receipt
        try:
            version = await asyncio.to_thread(remote_version_of, config, number, prepared.folder, receipt)
            commit = await asyncio.to_thread(commit_of, config.register_.model_name, number)
            return await self._checked.start(version, commit or "", receipt)
        except (StropError, OSError) as error:
            raise VersionRefused(f"{prepared.name} cannot be loaded: {str(error).rstrip('.')}") from error
