"""The HTTP interface of a server that speaks vLLM's API: completions in pieces, its models, and adapters loaded while it runs.

async with aclosing(client.stream(body)) as chunks:
    async for chunk in chunks: ...       # the JSON documents of the stream
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from tasks.inference.endpoint import api_key, not_set
from tasks.runtime.loopback import is_loopback
from tasks.runtime.redaction.settings import with_values
from tasks.serve.engine.remote_errors import error_of
from tasks.serve.engine.request import EngineFailed, EngineLost

CONNECT_SECONDS = 5.0
CONTROL_SECONDS = 10.0
"""For its health, version and models."""
LOAD_SECONDS = 300.0
"""For an adapter that is loaded."""
MOST_BYTES = 16 << 20
"""Of one document."""
NAMES = {"version": "vllm", "server_info": "sglang", "get_server_info": "sglang"}
"""Path of a document with `version`, beside `/v1` → the server that has it."""
DONE = "[DONE]"


@dataclass(frozen=True)
class RemoteModel:
    """An entry of `/v1/models`."""

    name: str
    is_adapter: bool
    root: str = ""
    """The path of its weights on the server."""
    context: int | None = None
    """`max_model_len`."""


class RemoteClient:
    """
    Args:
        base_url: with `/v1`; `${NAME}` stands for an environment variable.
        stall_seconds: longest wait for the next piece of an answer.
    """

    def __init__(self, base_url: str, api_key_env: str | None = None, stall_seconds: float = 120.0) -> None:
        self.base_url = str(with_values(base_url, not_set)).rstrip("/")
        self.root = self.base_url.removesuffix("/v1")
        self.stall_seconds = stall_seconds
        headers = {} if api_key_env is None else {"Authorization": f"Bearer {api_key(api_key_env)}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx.Timeout(stall_seconds, connect=min(CONNECT_SECONDS, stall_seconds))
        self._http = httpx.AsyncClient(
            headers=headers, timeout=timeout, limits=limits, trust_env=not is_loopback(self.base_url)
        )

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The documents of a completion, until its end is announced. Closing the generator ends the connection, and so the request.

        Raises:
            RequestRejected, EngineBusy, EngineLost, EngineFailed
        """
        try:
            async with self._http.stream("POST", f"{self.base_url}/completions", json=body) as response:
                if response.status_code != 200:
                    content = (await response.aread())[:MOST_BYTES]
                    raise error_of(response.status_code, content, response.headers.get("retry-after"))
                async for data in _within(_data_of(response.aiter_bytes()), self.stall_seconds):
                    if data == DONE:
                        return
                    yield _document(data)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise EngineLost(f"no piece of the answer within {self.stall_seconds:g} s") from error
        except httpx.TransportError as error:
            raise EngineLost(f"the connection ended ({type(error).__name__})") from error
        raise EngineLost("the connection ended before the answer")

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """A completion as one document. Raises as `stream`."""
        return _document((await self._send("POST", "completions", body, self.stall_seconds)).decode("utf-8", "replace"))

    async def models(self) -> list[RemoteModel]:
        """Raises EngineLost if the server does not answer, EngineFailed if that is no list of models."""
        document = _document((await self._send("GET", "models")).decode("utf-8", "replace"))
        try:
            return [_model(entry) for entry in document["data"]]
        except (LookupError, TypeError, AttributeError) as error:
            raise EngineFailed("`/v1/models` is no list of models") from error

    async def engine(self) -> str:
        """Name and version, such as `vllm 0.11.0`; `server` where it does not report them."""
        for path, name in NAMES.items():
            with suppress(EngineFailed, EngineLost, httpx.HTTPError):
                content = await self._get(f"{self.root}/{path}")
                if content is not None and isinstance(version := _document(content).get("version"), str):
                    return f"{name} {version[:100]}"
        return "server"

    async def is_healthy(self) -> bool:
        """Whether it answers, and does not report that its engine is dead; also a server without `/health`."""
        try:
            response = await self._http.get(f"{self.root}/health", timeout=CONTROL_SECONDS)
        except httpx.HTTPError:
            return False
        return response.status_code < 500

    async def load_adapter(self, name: str, path: str) -> None:
        """Loads an adapter; nothing happens where one of that name is loaded. Raises as `stream`."""
        body = {"lora_name": name, "lora_path": path}
        if name not in {model.name for model in await self.models()}:
            await self._send("POST", "load_lora_adapter", body, LOAD_SECONDS)

    async def unload_adapter(self, name: str) -> None:
        await self._send("POST", "unload_lora_adapter", {"lora_name": name})

    async def close(self) -> None:
        await self._http.aclose()

    async def _get(self, url: str) -> str | None:
        response = await self._http.get(url, timeout=CONTROL_SECONDS)
        is_document = response.status_code == 200 and len(response.content) <= MOST_BYTES
        return response.content.decode("utf-8", "replace") if is_document else None

    async def _send(self, method: str, path: str, body: Any = None, seconds: float = CONTROL_SECONDS) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.request(method, f"{self.base_url}/{path}", json=body, timeout=seconds)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise EngineLost(f"`{path}`: no response within {seconds:g} s") from error
        except httpx.HTTPError as error:
            raise EngineLost(f"`{path}`: {type(error).__name__}") from error
        if response.status_code != 200:
            raise error_of(response.status_code, response.content, response.headers.get("retry-after"))
        return response.content


async def _within(items: AsyncIterator[str], seconds: float) -> AsyncIterator[str]:
    """The items, each within the time limit: comments of a stream do not extend it."""
    while True:
        async with asyncio.timeout(seconds):
            item = await anext(items, None)
        if item is None:
            return
        yield item


async def _data_of(parts: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The `data:` lines of server-sent events."""
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > MOST_BYTES:
            raise EngineFailed(f"a piece of the answer has more than {MOST_BYTES:,} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip().decode("utf-8", "replace")


def _document(text: str) -> dict[str, Any]:
    """Raises EngineFailed for text that is no JSON object, or one with an error."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineFailed("the server's response is not JSON") from error
    if not isinstance(document, dict):
        raise EngineFailed("the server's response is no object")
    if document.get("object") == "error" or document.get("error"):
        raise error_of(500, text.encode("utf-8", "replace"))
    return document


def _model(entry: dict[str, Any]) -> RemoteModel:
    context = entry.get("max_model_len")
    is_number = isinstance(context, int) and not isinstance(context, bool) and context > 0
    root = entry.get("root")
    return RemoteModel(
        str(entry["id"]),
        bool(entry.get("parent")),
        root if isinstance(root, str) else "",
        context if is_number else None,
    )
