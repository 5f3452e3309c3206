"""A server that Strop reaches by URL or starts by a command: watched, started again when it ends, with its adapters.

server = await RemoteServer.started(settings, folder, "bf16")
await server.load("strop-model@v7+1f2e3d4c5b6a", path)
server.client, server.engine, server.is_alive
await server.close()
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from tasks import paths
from tasks.errors import ConfigError, SourceError, StropError
from tasks.inference.server_process import ServerProcess, started_server
from tasks.inference.settings import ServerSettings
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.remote_client import RemoteClient, RemoteModel
from tasks.serve.engine.remote_errors import AdapterUnknown
from tasks.serve.engine.request import EngineBusy, EngineFailed, EngineLost, RequestRejected

logger = logging.getLogger(__name__)

OWNER = "serve.engine"
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
ADAPTERS_AT_RUN_TIME = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
"""Without it vLLM has no `/v1/load_lora_adapter`."""
WATCH_SECONDS = 2.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
FAILURES = (EngineLost, EngineFailed, EngineBusy, RequestRejected)


class RemoteServer:
    """
    Args:
        folder: of the model that a command serves.
        dtype: `bfloat16` or `float32`.
    """

    def __init__(
        self, settings: EngineSettings, folder: Path, dtype: str, first_pause: float = FIRST_PAUSE_SECONDS
    ) -> None:
        self.settings, self.folder, self.dtype, self.first_pause = settings, folder, dtype, first_pause
        self.engine = ""
        """Name and version, such as `vllm 0.11.0`."""
        self.base = RemoteModel("", False)
        self.is_alive = False
        self.problem = ""
        """Why it is not alive."""
        self.starts = 0
        self._adapters: dict[str, str] = {}
        self._client: RemoteClient | None = None
        self._process: ServerProcess | None = None
        self._running: AbstractContextManager[ServerProcess] | None = None
        self._is_closed = False
        self._suspected = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @classmethod
    async def started(cls, settings: EngineSettings, folder: Path, dtype: str) -> RemoteServer:
        """Raises StropError if it does not answer, or not as a server of models."""
        server = cls(settings, folder, dtype)
        try:
            await server._start()
        except BaseException:
            await server.close()
            raise
        server.is_alive = True
        server._watcher = asyncio.create_task(server._watch())
        return server

    @property
    def client(self) -> RemoteClient:
        assert self._client is not None, "the server was not started"
        return self._client

    async def load(self, name: str, path: str) -> None:
        """Loads an adapter under a name that no other weights ever have.

        Raises:
            StropError: the server refuses it, or has other weights under this name.
        """
        try:
            await self.client.load_adapter(name, path)
            models = {model.name: model for model in await self.client.models()}
        except AdapterUnknown as error:
            what = "the server does not load adapters while it runs"
            fix = "Start vLLM with --enable-lora, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
            raise ConfigError(what, where=self.client.base_url, fix=fix) from error
        except FAILURES as error:
            what = f"the adapter {name} is not loaded ({error or type(error).__name__})"
            raise SourceError(what, where=self.client.base_url, fix="See the log of the server") from error
        served = models.get(name)
        if served is None or (served.root and Path(served.root).name != Path(path).name):
            what = f"{name} is {'other weights' if served else 'not among its models'} after it was loaded"
            raise SourceError(what, where=self.client.base_url, fix="See the log of the server")
        self._adapters[name] = path

    async def unload(self, name: str) -> None:
        """Unloads an adapter; an error is only logged, since its name is never used again."""
        self._adapters.pop(name, None)
        try:
            await self.client.unload_adapter(name)
        except FAILURES as error:
            logger.info(f"serve: {name} stays loaded in {self.engine} ({error})")

    def suspect(self) -> None:
        """A request was lost: the server is tested now, not at the next turn."""
        self._suspected.set()

    async def close(self) -> None:
        self._is_closed, self.is_alive = True, False
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        await self._end()
        if self._client is not None:
            await self._client.close()

    async def _start(self) -> None:
        """Starts or reaches it.

        Raises:
            StropError: it does not answer, or not as a server of models.
        """
        self.starts += 1
        if self.settings.kind == "command":
            await self._start_command()
        elif self._client is None:
            assert self.settings.base_url is not None
            self._client = RemoteClient(self.settings.base_url, self.settings.api_key_env, self.settings.stall_seconds)
        if not await self.client.is_healthy():
            what = "does not answer, or reports by `/health` that it is broken"
            raise SourceError(what, where=self.client.base_url, fix=f"Start the server, or correct {OWNER}")
        try:
            models, engine = await self.client.models(), await self.client.engine()
        except FAILURES as error:
            fix = f"Start the server, or correct {OWNER}"
            raise SourceError(f"does not list its models ({error})", where=self.client.base_url, fix=fix) from error
        if self.engine and engine != self.engine:
            what = f"is now {engine}; its versions were checked with {self.engine}"
            raise SourceError(
                what, where=self.client.base_url, fix="Restart strop serve: it checks them with the new one"
            )
        self.engine, self.base = engine, self._base_of(models)

    async def _start_command(self) -> None:
        paths.SERVING_ENGINE.mkdir(parents=True, exist_ok=True)
        settings = ServerSettings(
            command=self.settings.command,
            api_key_env=self.settings.api_key_env,
            start_seconds=self.settings.start_seconds,
        )
        log = paths.SERVING_ENGINE / f"{self.folder.name[:40]}.log"
        running = started_server(
            settings, self.folder, self.dtype, log, OWNER, ADAPTERS_AT_RUN_TIME, lambda: not self._is_closed
        )

        def start() -> ServerProcess:
            """In a thread, which a cancellation does not end."""
            process = running.__enter__()
            self._running = running
            if self._is_closed:
                running.__exit__(None, None, None)
            return process

        self._process = await asyncio.to_thread(start)
        if self._client is not None:
            await self._client.close()
        self._client = RemoteClient(self._process.base_url, self.settings.api_key_env, self.settings.stall_seconds)

    async def _end(self) -> None:
        running, self._running, self._process = self._running, None, None
        if running is not None:
            await asyncio.to_thread(running.__exit__, None, None, None)

    def _base_of(self, models: list[RemoteModel]) -> RemoteModel:
        """The entry of the base.

        Raises:
            ConfigError: there is none, or there are several and none is named.
        """
        named = self.settings.base_model
        bases = [model for model in models if (not model.is_adapter if named is None else model.name == named)]
        if len(bases) == 1:
            return bases[0]
        what = f"serves {', '.join(model.name for model in models) or 'no model'}"
        raise ConfigError(what, where=self.client.base_url, fix=f"Name the base: {OWNER}.base_model")

    async def _watch(self) -> None:
        """Tests the server, and starts it again with growing pauses."""
        pause = self.first_pause
        while not self._is_closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._suspected.wait(), WATCH_SECONDS)
            was_suspected = self._suspected.is_set()
            self._suspected.clear()
            try:
                if self.is_alive and await self._is_well():
                    if was_suspected:
                        await self._restore_adapters()
                    pause = self.first_pause
                    continue
                await self._recover(pause)
            except (StropError, *FAILURES) as error:
                self._fail(str(error) or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _is_well(self) -> bool:
        fault = self._process.fault() if self._process is not None else None
        if fault is None and await self.client.is_healthy():
            return True
        self._fail(fault or "it does not answer")
        return False

    async def _recover(self, pause: float) -> None:
        if self.settings.kind == "command":
            await self._end()
            await asyncio.sleep(pause if self.starts > 1 else 0)
        await self._start()
        await self._restore_adapters()
        self.is_alive, self.problem = True, ""
        logger.warning(f"serve: the engine {self.engine} answers again")

    async def _restore_adapters(self) -> None:
        for name, path in [*self._adapters.items()]:
            await self.load(name, path)

    def _fail(self, problem: str) -> None:
        if self.is_alive or problem != self.problem:
            logger.warning(f"serve: the engine is lost: {problem}")
        self.is_alive, self.problem = False, problem
