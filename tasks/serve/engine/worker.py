"""The process of one loaded version: it renders prompts, decodes, and reads answers. Started by client.py:

    python -m tasks.serve.engine.worker      # standard input is a socket; the first frame is its WorkerSpec

The main thread decodes: the number of OpenMP's threads is per thread. A second one reads commands.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tasks.errors import StropError
from tasks.inference.norms import quick_norms
from tasks.inference.packed_linear import packed_linears
from tasks.inference.slots import use_slots
from tasks.runtime.threads import Threads
from tasks.serve.engine.framing import read_frame
from tasks.serve.engine.head_answers import head_answer
from tasks.serve.engine.messages import SIGN_OF_LIFE, WorkerSpec, event_as_json, frame, request_of, spec_of
from tasks.serve.engine.online_decoder import OnlineDecoder
from tasks.serve.engine.rendering import Rendered
from tasks.serve.engine.request import Delta, EngineFailed, Event, Request, RequestRejected, Started
from tasks.serve.engine.serial_decoder import SerialDecoder
from tasks.serve.engine.version import LoadedVersion, facts_about, load_version, reason_for_generate

logger = logging.getLogger("tasks.serve.engine.worker")  # `__name__` is "__main__" here

SIGN_OF_LIFE_SECONDS = 2.0
GRACE_SECONDS = 2.0
FAILURES_IN_A_ROW = 3
"""After so many failed forward passes the process ends: its client starts another one."""
FAILED = "the engine failed; the server's log has the reason"
Command = dict[str, Any]


class Worker:
    """Answers the commands of one client with one version."""

    def __init__(self, loaded: LoadedVersion, spec: WorkerSpec, connection: socket.socket) -> None:
        self.loaded, self.spec, self.connection = loaded, spec, connection
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.is_closing = False
        self._events: list[list[Any]] = []
        self._last_sent = time.monotonic()
        self._failures = 0
        self._decoder: OnlineDecoder | SerialDecoder | None = None

    def run(self) -> None:
        """Until the client closes. Raises OSError if it is gone."""
        with self._computing() as in_slots:
            self._decoder = self._make_decoder(in_slots)
            facts = facts_about(self.loaded, self.spec, in_slots=in_slots)
            self._send({"ready": asdict(facts), "pid": os.getpid()})
            threading.Thread(target=self._read_commands, daemon=True, name="commands").start()
            gc.freeze()
            while not self.is_closing:
                self._take_commands(waits=not self._decoder.is_busy)
                if self._decoder.is_busy:
                    self._tick(self._decoder)
                self._flush()

    @contextmanager
    def _computing(self) -> Iterator[bool]:
        """The model computes as in evaluation. Yields whether it is decoded in slots."""
        inner = self.loaded.inner
        with ExitStack() as stack:
            if inner.device.type == "cpu":
                stack.enter_context(Threads("serve", is_quiet=True).hold_one())
            if self.loaded.labels is not None:
                yield False
                return
            stack.enter_context(packed_linears(inner))
            stack.enter_context(quick_norms(inner))
            reason = reason_for_generate(self.loaded)
            if reason is None:
                stack.enter_context(use_slots(inner))
            else:
                logger.info(f"serve: answers one request after the other, since {reason}")
            yield reason is None

    def _make_decoder(self, in_slots: bool) -> OnlineDecoder | SerialDecoder:
        if in_slots:
            return OnlineDecoder(self.loaded.inner, self.spec.rows, self.loaded.context)
        padding = self.loaded.tokenizer.pad_token_id or 0
        return SerialDecoder(self.loaded.model, padding, self.loaded.context, self._between_tokens)

    def _tick(self, decoder: OnlineDecoder | SerialDecoder) -> None:
        try:
            decoder.tick()
            self._failures = 0
        except (RuntimeError, MemoryError) as error:  # memory ran out, or a row is beyond what the model computes
            self._failures += 1
            logger.error(f"serve: a forward pass failed ({error})", exc_info=error)
            decoder.fail_all(FAILED)
            if self._failures >= FAILURES_IN_A_ROW:
                self._flush()
                raise

    def _between_tokens(self) -> None:
        self._take_commands(waits=False)
        self._flush()

    def _read_commands(self) -> None:
        try:
            while (command := read_frame(self.connection)) is not None:
                self.commands.put(command)
        except OSError:
            logger.debug("serve: the gateway has ended")
        self.commands.put({"close": True})

    def _take_commands(self, *, waits: bool) -> None:
        if waits:
            self._take(self.commands.get())
        while not self.commands.empty():
            self._take(self.commands.get())

    def _take(self, command: Command) -> None:
        assert self._decoder is not None
        if "add" in command:
            self._add(request_of(command["add"]))
        elif "cancel" in command:
            self._decoder.cancel(command["cancel"])
        else:
            self.is_closing = True

    def _add(self, request: Request) -> None:
        """Renders a request, and adds its rows."""
        assert self._decoder is not None
        send = partial(self._add_event, request.id)
        try:
            rendered = self.loaded.renderer.render(request)
            rows = [] if self.loaded.labels else self.loaded.rows_of(request, rendered, send)
        except RequestRejected as error:
            send(error)
            return
        except Exception as error:  # the texts of a user must not end the process
            logger.error(f"serve: a request could not be rendered ({error})", exc_info=error)
            send(EngineFailed(FAILED))
            return
        send(Started(len(rendered.ids), rendered.template, rendered.is_shortened))
        if self.loaded.labels:
            self._answer_with_head(request, rendered)
        else:
            self._decoder.add(rows)

    def _answer_with_head(self, request: Request, rendered: Rendered) -> None:
        try:
            answer = head_answer(self.loaded.model, self.loaded.labels or (), rendered.ids)
        except (RuntimeError, EngineFailed) as error:
            self._add_event(request.id, EngineFailed(str(error)))
            return
        if answer.text:
            self._add_event(request.id, Delta(0, answer.text))
        self._add_event(request.id, answer)

    def _add_event(self, id: str, event: Event | Exception) -> None:
        self._events.append(event_as_json(id, event))

    def _flush(self) -> None:
        """Sends the events of a tick in one frame."""
        if self._events:
            events, self._events = self._events, []
            self._send({"events": events})
        elif time.monotonic() - self._last_sent > SIGN_OF_LIFE_SECONDS:
            self._send(SIGN_OF_LIFE)

    def _send(self, message: dict[str, Any]) -> None:
        self.connection.sendall(frame(message))
        self._last_sent = time.monotonic()


def serve(connection: socket.socket) -> int:
    """Loads the version of the first frame, and answers until the client closes. Returns the exit code."""
    from tasks.runtime.plugins import load_plugins

    document = read_frame(connection)
    if document is None:
        return 0
    spec = spec_of(document)
    try:
        load_plugins(spec.plugins, Path.cwd())
        loaded = load_version(spec)
    except StropError as error:
        connection.sendall(frame({"refused": str(error)}))
        return 1
    try:
        Worker(loaded, spec, connection).run()
    except (BrokenPipeError, ConnectionResetError):
        logger.debug("serve: the gateway has ended")
    return 0


def main() -> int:
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.parent_watchdog import end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    for number in (signal.SIGINT, signal.SIGTERM):  # the gateway drains first, and closes the socket then
        signal.signal(number, signal.SIG_IGN)
    prepare_streams()
    set_up_logs("serve")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    end_with_parent(GRACE_SECONDS)
    with socket.socket(fileno=os.dup(0)) as connection:
        return serve(connection)


if __name__ == "__main__":
    code = main()
    os._exit(code)  # the thread that reads may still wait
