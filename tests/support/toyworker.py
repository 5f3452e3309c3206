"""A worker of the serving engine without a model: it starts in a tenth of a second, and misbehaves on request.

A request's text is answered word by word; `wait` waits for a `cancel`, `die` ends the process, `hang` stops reading.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict
from typing import Any

from tasks.serve.engine.framing import read_frame
from tasks.serve.engine.messages import event_as_json, frame, request_of
from tasks.serve.engine.request import (
    Delta,
    EngineFacts,
    EngineFailed,
    Finished,
    Request,
    RequestRejected,
    Started,
    TextPrompt,
)


def main() -> None:
    connection = socket.socket(fileno=os.dup(0))
    spec = read_frame(connection) or {}
    if spec["folder"] == "missing":
        connection.sendall(frame({"refused": "missing: holds no model."}))
        return
    facts = EngineFacts("toy", spec["precision"], True, 64, ("topic",))
    connection.sendall(frame({"ready": asdict(facts), "pid": os.getpid()}))
    cancelled = 0
    while (command := read_frame(connection)) is not None and "close" not in command:
        if "cancel" in command:
            cancelled += 1
            continue
        request = request_of(command["add"])
        events = [event_as_json(request.id, event) for event in answer(request, cancelled)]
        connection.sendall(frame({"events": events}))


def answer(request: Request, cancelled: int) -> list[Any]:
    assert isinstance(request.prompt, TextPrompt)
    text = request.prompt.text
    if text == "die":
        os._exit(1)
    if text == "hang":
        time.sleep(600)
    if text == "wait":
        return [Started(1)]
    if text == "refuse":
        return [RequestRejected("prompt_too_long", "too long", "prompt")]
    if text == "fail":
        return [Started(1), EngineFailed("NaN")]
    if text == "cancelled":
        text = str(cancelled)
    words = [Delta(0, word) for word in text.split()]
    return [Started(len(words)), *words, Finished(0, "stop", "".join(text.split()), len(words))]


if __name__ == "__main__":
    main()
