"""The servers outside of this process that answer for versions: one for the adapters of a base, one for each version with full
weights.

engines = RemoteEngines(config.serve.engine)
engine = await engines.load(version)      # not yet checked: tasks/serve/served_path
await engine.close()                      # unloads its adapter; the last version of a server ends it
await engines.close()
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.remote import RemoteEngine, facts_of
from tasks.serve.engine.remote_server import DTYPES, OWNER, RemoteServer
from tasks.serve.engine.remote_version import FIX, Decoding, RemoteVersion, decoding_of

logger = logging.getLogger(__name__)


@dataclass
class _Shared:
    server: RemoteServer
    versions: set[str] = field(default_factory=set)
    """Names of the versions that it serves."""


class RemoteEngines:
    def __init__(self, settings: EngineSettings) -> None:
        assert settings.kind != "embedded"
        self.settings = settings
        self._shared: dict[tuple[Path | None, str], _Shared] = {}
        self._lock = asyncio.Lock()

    async def load(self, version: RemoteVersion) -> RemoteEngine:
        """The version in a server, which is started first if necessary.

        Raises:
            StropError: a server cannot serve it, does not answer, or refuses it.
        """
        if self.settings.kind == "url" and not version.is_adapter:
            what = "it has full weights, which a running server does not load"
            raise ConfigError(
                what, where=f"{OWNER}, {version.name}", fix="Let Strop start the server: serve.engine.command"
            )
        tokenizer, decoding = await asyncio.to_thread(_described, version)
        async with self._lock:
            shared = await self._server_of(version)
            shared.versions.add(version.name)
            try:
                name = shared.server.base.name
                if version.is_adapter:
                    name = version.name
                    await shared.server.load(name, version.path_in(self.settings))
            except BaseException:
                await self._release(version)
                raise
        facts = facts_of(shared.server, version, decoding)
        logger.info(f"serve: {version.name} is loaded in {facts.engine}")

        async def unload() -> None:
            async with self._lock:
                if version.is_adapter and shared.server.is_alive:
                    await shared.server.unload(version.name)
                await self._release(version)

        return RemoteEngine(shared.server, name, tokenizer, decoding, facts, version.max_new_tokens, unload)

    async def close(self) -> None:
        async with self._lock:
            for shared in self._shared.values():
                await shared.server.close()
            self._shared.clear()

    def _key(self, version: RemoteVersion) -> tuple[Path | None, str]:
        return (None, "") if self.settings.kind == "url" else (version.model_folder, version.precision)

    async def _server_of(self, version: RemoteVersion) -> _Shared:
        key = self._key(version)
        if key not in self._shared:
            server = await RemoteServer.started(self.settings, version.model_folder, DTYPES[version.precision])
            self._shared[key] = _Shared(server)
        return self._shared[key]

    async def _release(self, version: RemoteVersion) -> None:
        """Ends the server of a version if it was the last one there."""
        shared = self._shared.get(self._key(version))
        if shared is None:
            return
        shared.versions.discard(version.name)
        if not shared.versions:
            del self._shared[self._key(version)]
            await shared.server.close()


def _described(version: RemoteVersion) -> tuple[Any, Decoding]:
    from tasks.base.load import load_tokenizer

    tokenizer = load_tokenizer(version.folder)
    if not tokenizer.is_fast:
        raise ConfigError("its tokenizer is none of the library `tokenizers`", where=version.name, fix=FIX)
    return tokenizer, decoding_of(version, tokenizer)
