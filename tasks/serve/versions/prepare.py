"""Prepares a version for an engine: its signatures, its files and its base are checked before anything is loaded.

Blocking: it reads git and files, and may fetch weights. Neither torch nor MLflow is imported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.base.pin import BaseRecord, base_of, read_base, verify_base
from tasks.errors import BaseModelError, StropError
from tasks.model_store.ledger_entries import Entry
from tasks.model_store.signatures import require_servable
from tasks.model_store.versions import version_receipt, weights_folder
from tasks.serve.engine.request import OnlineEngine
from tasks.serve.versions.loaded import VersionRefused
from tasks.serve.versions.names import version_name

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

ADAPTER = "adapter_config.json"
"""In the folder of an adapter; as in tasks/base/load.py, which imports torch."""


@dataclass(frozen=True)
class PreparedVersion:
    name: str
    """`<model>@v3`."""
    entry: Entry
    folder: Path
    """Its files: weights, tokenizer, chat template and templates.json."""
    base: BaseRecord | None
    """What an adapter was trained on; None for full weights."""
    receipt: Mapping[str, Any]


Start = Callable[["PipelineConfig", PreparedVersion], Awaitable[OnlineEngine]]


class PreparedEngines:
    """The factory of a server: prepares a version in a thread, then starts its engine.

    Args:
        start: raises VersionRefused if the engine cannot be started.
    """

    def __init__(self, config: PipelineConfig, start: Start) -> None:
        self._config, self._start = config, start

    async def load(self, entry: Entry) -> OnlineEngine:
        prepared = await asyncio.to_thread(prepare, self._config, entry)
        return await self._start(self._config, prepared)


def prepare(config: PipelineConfig, entry: Entry) -> PreparedVersion:
    """Raises VersionRefused if a required signature is missing, its files cannot be obtained, or its base has changed."""
    name = version_name(config.register_.model_name, entry.version)
    try:
        require_servable(config, entry.version)
        folder = weights_folder(config.register_.model_name, entry.version, entry.weights_digest)
        receipt = version_receipt(config.register_.model_name, entry.version) or {}
        base = _require_base(receipt) if (folder / ADAPTER).is_file() else None
    except (StropError, OSError) as error:
        raise VersionRefused(f"{name} cannot be loaded: {str(error).rstrip('.')}") from error
    return PreparedVersion(name, entry, folder, base, receipt)


def _require_base(receipt: Mapping[str, Any]) -> BaseRecord:
    """The base in a receipt: it must be the project's, with the files as they were in training.

    Raises:
        BaseModelError: it is another one, or has changed.
    """
    pinned = read_base()
    base = base_of(receipt["base"]) if receipt.get("base") else pinned
    if base.digest != pinned.digest:
        what = f"it is an adapter of {base.id} ({base.digest[:12]}…), not of {pinned.id} ({pinned.digest[:12]}…)"
        raise BaseModelError(what, where=str(paths.BASE), fix="Set base.model to that of the version")
    verify_base(base)
    return base
