"""A toy server of models: an OpenAI-compatible endpoint that answers token ids by `generate` of transformers, as vLLM does.

It runs in the test's process. A command that starts a server starts a relay to it (`relay.py`), which names its folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from support.toyendpoint import Reply, ToyEndpoint

RELAY = Path(__file__).with_name("relay.py")


class ToyServer(ToyEndpoint):
    def __init__(
        self, folders: dict[str, Path] | None = None, version: str = "0.11.0", has_token_ids: bool = True
    ) -> None:
        super().__init__(lambda prompt: "")
        self.folders, self.version, self.has_token_ids = folders or {}, version, has_token_ids
        self.faults: list[Reply] = []
        """Replies to the next requests, in place of answers."""
        self.served: list[str] = []
        """The dtype of each folder that was served."""
        self._models: dict[str, Any] = {}

    def command(self, *arguments: str) -> tuple[str, ...]:
        upstream = str(self.server.server_port)
        return (sys.executable, str(RELAY), "{port}", "{model}", "{dtype}", upstream, *arguments)

    def _document(self, path: str) -> Reply:
        if path == "/version":
            return Reply(body=json.dumps({"version": self.version}))
        return Reply(body=json.dumps({"data": [{"id": name} for name in self.folders]}))

    def _reply(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        with self._lock:
            self.requests.append({"path": path, "headers": headers, "body": body})
            if self.faults:
                return self.faults.pop(0)
            if "folder" not in body and body["model"] not in self.folders:
                return Reply(404, "no such model")
            return self._answer(Path(body.get("folder") or self.folders[body["model"]]), body)

    def _answer(self, folder: Path, body: dict[str, Any]) -> Reply:
        from tasks.base.load import load_tokenizer, load_weights
        from tasks.inference.batches import generate_batch

        if str(folder) not in self._models:
            self._models[str(folder)] = load_weights(folder), load_tokenizer(folder)
            self.served.append(body.get("dtype", ""))
        model, tokenizer = self._models[str(folder)]
        ends = body["stop_token_ids"]
        (tokens,) = generate_batch(
            model, [body["prompt"]], body["max_tokens"], ends=ends, padding=tokenizer.pad_token_id
        )
        is_cut = set(ends).isdisjoint(tokens)
        choice = {"text": tokenizer.decode(tokens), "finish_reason": "length" if is_cut else "stop"}
        return Reply(body=json.dumps({"choices": [choice | ({"token_ids": tokens} if self.has_token_ids else {})]}))
