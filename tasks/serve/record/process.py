"""The recorder process: reads records from a socket, masks them, writes them to the spool, and answers feedback.

    python -m tasks.serve.record.process FD     # started by RecorderClient

JSON lines. The first one has the settings (`Start`); then {"response": {…}}, {"feedback": {…}, "key", "is_admin",
"idempotency_key", "ticket"}, {"flush": true, "ticket"}. Replies: {"ticket", "id", "is_new"} or {"ticket", "refused"}, with counts.
The process ends when the socket is closed: what was sent before is written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.feedback.check import FeedbackRefused
from tasks.feedback.records import ServedResponse
from tasks.feedback.retention import expired_segments
from tasks.feedback.spool import DAY_SECONDS
from tasks.feedback.store import FeedbackStore, Giver
from tasks.serve.record.start import Start

logger = logging.getLogger(__name__)

READ_AT_ONCE = 1 << 20
LONGEST_WAIT = 1.0
"""Seconds without a record after which the recorder looks for erasures."""
RETENTION_EVERY = 3600.0
_UNAVAILABLE = {
    "status": 503,
    "code": "records_unavailable",
    "message": "the feedback could not be stored; send it again",
    "param": None,
}
_FAILED = {
    "status": 500,
    "code": "internal_error",
    "message": "the server failed at this feedback; its log has the reason",
    "param": None,
}
PROBLEM_EVERY = 60.0
"""Seconds between two warnings that records cannot be written."""


class Recorder:
    """The work of the process."""

    def __init__(self, start: Start, connection: socket.socket) -> None:
        self.start, self.connection = start, connection
        self.store = FeedbackStore(Path(start.spool), start.settings, start.pii)
        self.written = 0
        self.lost = 0
        """Records that could not be written."""
        self._replies: list[dict[str, Any]] = []
        self._sent = (0, 0)
        self._synced = time.monotonic()
        self._reported = self._removed = -RETENTION_EVERY

    def run(self, buffered: bytes) -> None:
        """Until the socket is closed.

        Args:
            buffered: what was read after the first line.
        """
        rest = buffered
        while True:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            self._tick()
            try:
                portion = self.connection.recv(READ_AT_ONCE)
            except TimeoutError:
                continue
            except ConnectionError:  # the gateway was killed
                break
            if not portion:
                break
            rest += portion
        self._guarded(self.store.writer.sync)
        self.store.writer.close()

    def _take(self, message: Mapping[str, Any]) -> None:
        if "response" in message:
            is_written = self._add_response(message["response"])
            self.written, self.lost = self.written + is_written, self.lost + (not is_written)
            return
        reply: dict[str, Any] = {"ticket": message["ticket"]}
        if "feedback" in message:
            reply |= self._feedback(message)
        self._replies.append(reply)

    def _add_response(self, values: Mapping[str, Any]) -> bool:
        try:
            response = ServedResponse.from_json(values)
            return self._guarded(lambda: self.store.add_response(response))
        except Exception:  # such as JSON that is nested too deeply
            logger.exception("serve: a response could not be written")
            return False

    def _feedback(self, message: Mapping[str, Any]) -> dict[str, Any]:
        giver = Giver(message["key"], message["is_admin"])
        try:
            return asdict(self.store.add_feedback(message["feedback"], giver, message["idempotency_key"]))
        except FeedbackRefused as refusal:
            names = ("status", "code", "message", "param")
            return {"refused": {name: getattr(refusal, name) for name in names}}
        except OSError as error:
            self._report(error)
            return {"refused": _UNAVAILABLE}
        except Exception:  # what one client sends must not end the records of all
            logger.exception("serve: feedback could not be stored")
            return {"refused": _FAILED}

    def _tick(self) -> None:
        """Flushes if it is time, then confirms: feedback is durable when it is confirmed."""
        now = time.monotonic()
        interval = self.start.settings.sync_seconds
        if self._replies or now - self._synced >= interval:
            self._synced = now
            is_durable = self._guarded(self.store.writer.sync)
            self._send(is_durable)
        self._guarded(self.store.end_segment_after_erasure)
        if now - self._removed >= RETENTION_EVERY:
            self._removed = now
            self._remove_expired()
        is_pending = self.store.writer.unsynced > 0
        left = self._synced + interval - now if is_pending else LONGEST_WAIT
        self.connection.settimeout(min(max(left, 0.001), LONGEST_WAIT))

    def _send(self, is_durable: bool) -> None:
        """Sends the replies; without any the counts, if they have changed."""
        counts = (self.written, self.lost)
        if not self._replies and counts != self._sent:
            self._replies.append({"ticket": 0})
        self._sent = counts
        replies = [reply if is_durable or "id" not in reply else _refusal_of(reply) for reply in self._replies]
        lines = b"".join(
            json.dumps({**reply, "written": counts[0], "lost": counts[1]}).encode() + b"\n" for reply in replies
        )
        self._replies.clear()
        with contextlib.suppress(ConnectionError):  # the gateway was killed: what it sent is written all the same
            self.connection.settimeout(None)
            self.connection.sendall(lines)

    def _remove_expired(self) -> None:
        before = time.time() - self.start.retention_days * DAY_SECONDS
        for path in expired_segments(Path(self.start.spool), before):
            path.unlink(missing_ok=True)
            logger.info(f"serve: {path} is removed: its records are older than {self.start.retention_days} days")

    def _guarded(self, work: Any) -> bool:
        """False where the disk is full or failing: the gateway goes on serving."""
        try:
            work()
        except OSError as error:
            self._report(error)
            return False
        return True

    def _report(self, error: OSError) -> None:
        if time.monotonic() - self._reported >= PROBLEM_EVERY:
            self._reported = time.monotonic()
            logger.warning(f"serve: records cannot be written ({error}): they are lost until that is fixed")


def _refusal_of(reply: Mapping[str, Any]) -> dict[str, Any]:
    return {"ticket": reply["ticket"], "refused": _UNAVAILABLE}


def main(descriptor: int) -> None:
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    set_up_logs("serve")
    for number in (signal.SIGINT, signal.SIGTERM):  # the gateway drains first, and closes the socket then
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    received = b""
    while b"\n" not in received:
        portion = connection.recv(READ_AT_ONCE)
        if not portion:
            return
        received += portion
    first, _, rest = received.partition(b"\n")
    Recorder(Start.from_json(json.loads(first)), connection).run(rest)


if __name__ == "__main__":
    main(int(sys.argv[1]))
