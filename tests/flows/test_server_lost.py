"""A Prefect server that dies during a run is restarted; one that dies repeatedly ends the run soon, with one line."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.processes import command_line, wait_for
from support.toyflow import command, facts, make_toy_flow, without_prefect

from flows.runtime import prefect_server as server_module
from flows.runtime.prefect_server import Server, reporting_lost_server
from flows.runtime.supervisor import supervise
from tasks.errors import StropError

STUB = """
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""


class Stub(Server):
    """A server that is up in a moment."""

    def start(self) -> None:
        descriptor = self.listener.fileno()
        self.process = subprocess.Popen([sys.executable, "-c", STUB, str(descriptor)], pass_fds=[descriptor])


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    handler = signal.getsignal(signal.SIGUSR1)
    server = Stub(socket.create_server(("127.0.0.1", 0), backlog=16), tmp_path / "log")
    monkeypatch.setattr(server_module, "_own_server", server)
    server.start()
    ask(server)
    supervise(server)
    yield server
    logging.disable(logging.NOTSET)
    logging.raiseExceptions = True
    server.stop()
    signal.signal(signal.SIGUSR1, handler)


def ask(server: Server) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.listener.getsockname()[1], timeout=20)
    connection.request("GET", "/api/health")
    answer = connection.getresponse()
    response = answer.status, answer.read().decode()
    connection.close()
    return response


def test_a_killed_server_is_restarted_at_its_address_and_pending_requests_are_answered(
    stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    first, url = stub.process, stub.url
    first.kill()
    status, pid = ask(stub)
    assert (status, url) == (200, stub.url)
    assert int(pid) == stub.process.pid != first.pid
    assert capsys.readouterr().err.count("the Prefect server ended (exit code -9); it is restarted.") == 1


def test_a_server_that_hangs_is_replaced_within_half_a_minute(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.monotonic()
    first = stub.process
    first.send_signal(signal.SIGSTOP)
    wait_for(lambda: stub.process is not first, 30, "another server")
    status, pid = ask(stub)
    assert time.monotonic() - before < 30
    assert (status, int(pid)) == (200, stub.process.pid)
    assert first.returncode == -signal.SIGKILL
    assert capsys.readouterr().err == "strop: the Prefect server hung; it is restarted.\n"


def test_nobody_takes_the_port_while_the_server_is_down(stub: Stub) -> None:
    stub.is_stopped = True  # it stays down
    stub.process.kill()
    stub.process.wait()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", stub.listener.getsockname()[1]))


def test_a_server_that_dies_repeatedly_interrupts_the_run_and_rejects_at_once(stub: Stub) -> None:
    def kill_each() -> None:
        last = None
        while stub.lost is None:
            if stub.process is not last:
                last = stub.process
                last.kill()
            time.sleep(0.05)

    before = time.monotonic()
    threading.Thread(target=kill_each, daemon=True).start()
    with pytest.raises(StropError, match="the Prefect server ended 3 times") as raised, reporting_lost_server():
        time.sleep(30)
    assert time.monotonic() - before < 20
    assert "strop run` continues there" in str(raised.value)
    assert ask(stub)[0] == 410


def test_a_server_that_cannot_be_started_again_is_given_up(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory() -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(stub, "start", no_memory)
    threading.Timer(0.2, stub.process.kill).start()
    with pytest.raises(StropError, match="Cannot allocate memory"), reporting_lost_server():
        time.sleep(30)


def test_the_errors_of_a_run_are_not_taken_for_those_of_the_server(stub: Stub) -> None:
    with pytest.raises(KeyboardInterrupt), reporting_lost_server():
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="ours"), reporting_lost_server():
        raise ValueError("ours")


def run_in_background(root: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("run"), cwd=root, env=without_prefect(), stdout=log.open("w"), stderr=subprocess.STDOUT
    )


def servers_below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []
    return [child for child in children if command_line(child)[1:3] == ["-m", "flows.runtime.server_process"]]


@pytest.mark.slow  # `make test` has the server alone: test_a_killed_server_is_restarted_at_its_address_…
@pytest.mark.chaos
def test_a_run_whose_server_is_killed_completes(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    run = run_in_background(root, tmp_path / "log")
    wait_for(lambda: (root / "data/validated").exists() or run.poll() is not None, 180, "the first stage")
    (server,) = servers_below(run)
    server.kill()
    assert run.wait(240) == 0, (tmp_path / "log").read_text()
    written = (tmp_path / "log").read_text()
    assert "it is restarted" in written
    assert "Version 1 passed the gate and is now champion." in written
    assert "Traceback" not in written
    assert [entry["kind"] for entry in facts(root, "history")] == ["judged", "promoted"]


@pytest.mark.chaos
@pytest.mark.slow
def test_a_run_whose_server_always_dies_ends_soon_in_one_line_and_the_next_continues(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    run = run_in_background(root, tmp_path / "log")
    wait_for(lambda: (root / "data/validated").exists() or run.poll() is not None, 180, "the first stage")
    before = time.monotonic()
    while run.poll() is None:
        for server in servers_below(run):
            os.kill(server.pid, signal.SIGKILL)
        assert time.monotonic() - before < 60
        time.sleep(0.05)
    seconds = time.monotonic() - before
    written = (tmp_path / "log").read_text()
    assert run.returncode == 1, written
    assert seconds < 30, written
    assert "Traceback" not in written
    messages = [line for line in written.splitlines() if line.startswith("strop: ") and "restarted" not in line]
    assert len(messages) == 1, written
    assert "Error logging" not in written, written
    assert "EventsWorker" not in written, written
    assert "the Prefect server ended 3 times" in messages[0]
    last = subprocess.run(command("run"), cwd=root, env=without_prefect(), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert "is now champion" in last.stdout
