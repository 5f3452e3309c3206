"""Runs programs with their tests, each in a sandbox and a process of its own.

sandbox = open_sandbox(Limits(), setting="evaluate.code.execute")
sandbox.run([Program(("def f(x): return x",), "assert f(2) == 2")])
"""

from __future__ import annotations

import marshal
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from tasks.errors import ConfigError, one_line
from tasks.runtime.cores import cores
from tasks.sandbox.bubblewrap import find_bubblewrap, sandbox_command
from tasks.sandbox.system_calls import MACHINES, seccomp_filter

Reason = Literal["passed", "wrong", "error", "timeout", "memory", "syntax", "no_code"]
REASONS: tuple[Reason, ...] = get_args(Reason)
REPORTED: tuple[Reason, ...] = ("wrong", "error", "memory", "syntax")
"""Those that the harness reports."""
MOST_OUTPUT_BYTES = 4096
WALL_SECONDS_PER_CPU_SECOND, WALL_SECONDS_TO_START = 3, 10
"""The clock's limit is far above that of CPU time, so that a busy machine changes no score: it ends programs that wait."""
KILLED = 128 + 9
"""Exit code by SIGKILL, which only the limit of CPU time sends; the first process of a namespace ignores its own."""


@dataclass(frozen=True)
class Limits:
    cpu_seconds: int = 5
    memory_mb: int = 512
    files_mb: int = 16


@dataclass(frozen=True)
class Program:
    texts: tuple[str, ...]
    """Ways to read the answer as a program, most likely first: the first that compiles is run. Without any: it has no code."""
    tests: str


NO_PROGRAM = ("",)
"""The texts of an empty program: tests that pass with it test nothing."""


@dataclass(frozen=True)
class Outcome:
    reason: Reason | None
    """None: the tests are not Python."""
    detail: str = ""


class Sandbox:
    """Runs programs under `limits`, several at once."""

    def __init__(self, binary: Path, filter_: bytes, limits: Limits, processes: int | None = None) -> None:
        self.limits, self.processes = limits, processes or cores()
        self._binary, self._filter = binary, filter_

    def run(self, programs: Sequence[Program]) -> list[Outcome]:
        """The outcome of each program, in order."""
        with ThreadPoolExecutor(max(1, min(self.processes, len(programs)))) as threads:
            return list(threads.map(self._run, programs))

    def describe(self) -> dict[str, Any]:
        """What was in force, for metrics.json."""
        version = subprocess.run(
            [self._binary, "--version"], capture_output=True, text=True, check=False
        ).stdout.split()
        return {
            "isolation": f"bubblewrap {version[-1] if version else ''}",
            "without": ["network", "other processes", "environment", "files of this machine"],
            "python": platform.python_version(),
            "limits": asdict(self.limits),
        }

    def _run(self, program: Program) -> Outcome:
        if not program.texts:
            return Outcome("no_code")
        token = secrets.token_hex(16).encode()
        work = {
            "programs": list(program.texts),
            "tests": program.tests,
            "memory_bytes": self.limits.memory_mb << 20,
            "cpu_seconds": self.limits.cpu_seconds,
            "file_bytes": self.limits.files_mb << 20,
        }
        return outcome_of(token, *self._run_process(marshal.dumps(work), token))

    def _run_process(self, work: bytes, token: bytes) -> tuple[bytes, int, bool]:
        """Output, exit code, and whether the process ran out of time."""
        with tempfile.TemporaryFile() as filter_file:
            filter_file.write(self._filter)
            filter_file.seek(0)
            command = sandbox_command(self._binary, filter_file.fileno(), self.limits.files_mb << 20)
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=(filter_file.fileno(),), start_new_session=True, env={}, cwd="/",
            )  # fmt: skip
        longest = self.limits.cpu_seconds * WALL_SECONDS_PER_CPU_SECOND + WALL_SECONDS_TO_START
        is_late = threading.Event()

        def stop() -> None:
            is_late.set()
            _end(process)

        timer = threading.Timer(longest, stop)
        timer.start()
        try:
            output = _exchange(process, len(work).to_bytes(8, "big") + work + token)
            return output, process.wait(), is_late.is_set()
        finally:
            timer.cancel()
            _end(process)


def _exchange(process: subprocess.Popen[bytes], data: bytes) -> bytes:
    """Sends the work; returns the output up to its end, or MOST_OUTPUT_BYTES of it, and then kills the process."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError), process.stdin:  # bubblewrap failed, and says why
        process.stdin.write(data)
    output = b""
    with process.stdout:
        while part := os.read(process.stdout.fileno(), MOST_OUTPUT_BYTES):
            output += part
            if len(output) >= MOST_OUTPUT_BYTES:
                _end(process)
                break
    return output


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the program. Then bubblewrap ends, after it has reaped the program, which would else be left as a zombie."""
    if process.poll() is not None:
        return
    with suppress(psutil.Error):
        for program in psutil.Process(process.pid).children():
            program.kill()
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()


def outcome_of(token: bytes, output: bytes, exit_code: int, is_late: bool) -> Outcome:
    """What the output and the end of a process mean. Pure."""
    if output == token:
        return Outcome("passed")
    if is_late or (exit_code == KILLED and len(output) < MOST_OUTPUT_BYTES):
        return Outcome("timeout")
    reason, _, detail = output.decode("utf-8", "replace").partition("\n")
    for known in REPORTED:
        if reason == known:
            return Outcome(known, detail)
    if reason == "tests":
        return Outcome(None, detail)
    shown = one_line(output.decode("utf-8", "replace"), 200)
    return Outcome("error", f"it ended before its tests had passed{shown and f': {shown}'}")


PROBE = """
import os, socket

def is_refused(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return True
    return False

assert is_refused(socket.socket), "a program can open sockets"
assert is_refused(os.fork), "a program can start processes"
assert is_refused(open, "/file", "w"), "a program can write outside its folder"
assert is_refused(os.listdir, {project!r}), "a program can read the project"
open("file", "w").close()
"""
"""The tests of an empty program: they fail unless the bounds are in force."""


def open_sandbox(limits: Limits, processes: int | None = None, *, setting: str) -> Sandbox:
    """The sandbox, after a trial run.

    Args:
        setting: the one that requests it, for the error.

    Raises:
        ConfigError: programs cannot be isolated on this machine.
    """
    binary, machine = find_bubblewrap(), MACHINES.get(platform.machine())
    if binary is None or machine is None:
        missing = f"there is none for {platform.system()} on {platform.machine()}"
        why = "bubblewrap (`bwrap`) is not installed" if machine and sys.platform == "linux" else missing
        raise _not_isolated(why, setting)
    sandbox = Sandbox(binary, seccomp_filter(machine), limits, processes)
    (outcome,) = sandbox.run([Program(("",), PROBE.format(project=os.getcwd()))])
    if outcome.reason != "passed":
        raise _not_isolated(f"the trial run in the sandbox failed: {outcome.detail or outcome.reason}", setting)
    return sandbox


def _not_isolated(why: str, setting: str) -> ConfigError:
    return ConfigError(
        f"answers cannot be isolated on this machine, so they are not executed: {why}",
        where=setting,
        fix="Install bubblewrap on Linux with user namespaces (docs/security.md, Code that models write), or do without it",
    )
