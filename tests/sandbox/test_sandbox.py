"""The bounds of the sandbox hold for programs that try to break them; a program passes only if its tests did."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.isolation import require_isolation
from support.project import REPOSITORY

from tasks.errors import ConfigError
from tasks.sandbox import harness, run_programs
from tasks.sandbox.run_programs import Limits, Outcome, Program, Sandbox, open_sandbox, outcome_of
from tasks.sandbox.system_calls import MACHINES, seccomp_filter

TESTS = "assert f(2) == 2\nassert f(-3) == -3"
FLOOD = """
import os
for descriptor in range(3, 64):
    try:
        while True:
            os.write(descriptor, b"x" * 65536)
    except OSError:
        pass
"""
FILES_MB = 3
GOOD = "def f(x):\n    return x\n"


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """With one second of CPU time; skips where programs cannot be isolated."""
    require_isolation()
    return open_sandbox(Limits(cpu_seconds=1, memory_mb=256, files_mb=FILES_MB), 2, setting="test")


def running_programs() -> list[int]:
    """Processes of programs with this limit of files."""
    result = []
    for each in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            if "/harness.py" in (each.info["cmdline"] or ()) and each.rlimit(psutil.RLIMIT_FSIZE)[0] == FILES_MB << 20:
                result.append(each.pid)
    return result


def until(is_true: Callable[[], bool]) -> bool:
    """Whether it becomes true within ten seconds."""
    deadline = time.monotonic() + 10
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_true()


def zombies() -> set[int]:
    """Dead processes named as those of a sandbox that no other process has reaped."""
    return {
        each.pid
        for each in psutil.process_iter(["name", "status"])
        if each.info["status"] == psutil.STATUS_ZOMBIE and each.info["name"].startswith(("bwrap", "python"))
    }


def outcome(sandbox: Sandbox, text: str, tests: str = TESTS) -> Outcome:
    (result,) = sandbox.run([Program((text,), tests)])
    return result


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (GOOD, "passed", ""),
        ("def f(x):\n    return abs(x)", "wrong", "AssertionError in line 2 of the tests: assert f(-3) == -3"),
        ("def f(x) return x", "syntax", "SyntaxError"),
        ("def g(x):\n    return x", "error", "NameError: name 'f' is not defined in line 1"),
        ("# 返回输入\ndef f(x):\n    raise ValueError('输入错误')", "error", "ValueError: 输入错误 in line 1"),
        ("while True:\n    pass", "timeout", ""),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "timeout", ""),
        ("x = bytearray(10 << 30)", "memory", ""),
        ("def f(x):\n    return f(x)", "error", "RecursionError"),
        ("import asyncio\nasync def g(x): return x\ndef f(x): return asyncio.run(g(x))", "passed", ""),
        (f"{GOOD}import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()", "passed", ""),
    ],
)
def test_a_program_has_the_reason_of_its_end(sandbox: Sandbox, text: str, reason: str, detail: str) -> None:
    result = outcome(sandbox, text)
    assert result.reason == reason
    assert detail in result.detail


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "import atexit, os\natexit.register(lambda: os.write(1, b'passed'))\nraise SystemExit",
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'0' * 32)\n    except OSError: pass\nos._exit(0)",
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'passed')\n    except OSError: pass\nos._exit(0)",
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'tests')\n    except OSError: pass\nos._exit(0)",
        "class E(BaseException):\n    def __str__(self): raise self\nraise E",
    ],
)
def test_a_program_that_ends_before_its_tests_has_not_passed(sandbox: Sandbox, text: str) -> None:
    assert outcome(sandbox, GOOD + text).reason != "passed"


@pytest.mark.parametrize(
    "text",
    [
        "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.exec = builtins.compile = lambda *_: None",
        "import builtins\nbuiltins.__dict__['f'] = abs\nbuiltins.abs = lambda x: 2",
        "import os, sys\nos.write = os.read = os._exit = print\nsys.settrace(lambda *_: None)",
        "import inspect, sys\nprint(inspect.getsource(sys._getframe(1)))",
        "import sys\nopen('/harness.py', 'w')",
        "__name__ = '__main__'\nTESTS = ''\ntests = ''",
    ],
)
def test_a_program_that_changes_the_interpreter_still_fails_its_tests(sandbox: Sandbox, text: str) -> None:
    assert outcome(sandbox, f"def f(x):\n    return 1\n{text}").reason in ("wrong", "error")


def test_neither_network_nor_other_processes_can_be_reached(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        call = f"import socket\nsocket.create_connection(('127.0.0.1', {port}))"
        assert "PermissionError" in outcome(sandbox, GOOD + call).detail
    kills = f"import os\nos.kill({os.getpid()}, 15)\n"
    assert "ProcessLookupError" in outcome(sandbox, GOOD + kills).detail
    everyone = "import os, signal\nos.kill(os.getppid(), 9)\ntry: os.kill(-1, 9)\nexcept OSError: pass\n"
    assert outcome(sandbox, everyone + GOOD).reason in ("passed", "error")


def test_no_process_can_be_started(sandbox: Sandbox) -> None:
    for text in (
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['/usr/bin/true'])",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
    ):
        result = outcome(sandbox, GOOD + text)
        assert result.reason == "error"
        assert "PermissionError" in result.detail or "FileNotFoundError" in result.detail
    bomb = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    assert outcome(sandbox, bomb).reason in ("error", "memory", "timeout")


SHARED_MEMORY = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.{call} >= 0, ctypes.get_errno()
"""


@pytest.mark.parametrize(
    "call", ["shmget(0, 1 << 20, 0o1600)", "memfd_create(b'x', 0)", "msgget(0, 0o1600)", "semget(0, 1, 0o1600)"]
)
def test_memory_outside_the_address_space_is_refused(sandbox: Sandbox, call: str) -> None:
    assert "AssertionError: 1 " in f"{outcome(sandbox, GOOD, SHARED_MEMORY.format(call=call)).detail} "


def test_only_the_standard_library_can_be_read(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token")
    monkeypatch.setenv("STROP_SECRET_TOKEN", "12345678")
    for path in (
        secret,
        Path.cwd(),
        Path(__file__),
        Path.home() / ".ssh",
        Path("/etc/passwd"),
        Path("/proc/1/environ"),
    ):
        read = f"import os\nos.listdir({str(path)!r}) if os.path.isdir({str(path)!r}) else open({str(path)!r}).read()"
        assert "FileNotFoundError" in outcome(sandbox, GOOD + read).detail, path
    empty = "import os\ndef f(x): return len(os.listdir()) + ('STROP_SECRET_TOKEN' in os.environ) + x"
    assert outcome(sandbox, empty) == Outcome("passed")


def test_only_a_small_folder_can_be_written(sandbox: Sandbox) -> None:
    written = "open('a', 'w').write('x')\n"
    assert outcome(sandbox, written + GOOD) == Outcome("passed")
    assert outcome(sandbox, "import os\nassert os.listdir() == []\n" + GOOD) == Outcome("passed")  # nothing is left
    for place in ("/a", "/dev/shm/a", "/usr/lib/a", "/tmp/a"):
        assert (
            "OSError" in outcome(sandbox, f"open({place!r}, 'w')").detail
            or "FileNotFoundError" in outcome(sandbox, f"open({place!r}, 'w')").detail
        )
    assert "File too large" in outcome(sandbox, "f = open('a', 'w')\nwhile True: f.write('x' * (1 << 20))").detail
    many = "i = 0\nwhile True:\n    open(str(i), 'w').write('x' * (1 << 20))\n    i += 1"
    assert "No space left" in outcome(sandbox, many).detail


def test_endless_output_is_dropped_or_ends_the_program(sandbox: Sandbox) -> None:
    begin = time.monotonic()
    assert outcome(sandbox, "for _ in range(1000): print('x' * 10_000)\n" + GOOD).reason == "passed"
    result = outcome(sandbox, FLOOD)
    assert result.reason == "error"
    assert len(result.detail) < 400
    assert time.monotonic() - begin < 10


def test_a_program_that_waits_ends_by_the_clock(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_programs, "WALL_SECONDS_TO_START", -2)
    begin = time.monotonic()
    result = outcome(
        sandbox, "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ntime.sleep(60)"
    )
    assert result == Outcome("timeout")
    assert time.monotonic() - begin < 10
    assert until(lambda: not running_programs())


def test_programs_end_with_the_process_that_started_them(sandbox: Sandbox) -> None:
    code = (
        "from tasks.sandbox.run_programs import *\n"
        f"sandbox = open_sandbox(Limits(files_mb={FILES_MB}), 1, setting='x')\nprint(flush=True)\n"
        "sandbox.run([Program(('import time\\ntime.sleep(60)',), '')])"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        starter.stdout.readline()
        assert until(lambda: bool(running_programs()))
        starter.kill()
    assert until(lambda: not running_programs())


def test_no_zombie_is_left(sandbox: Sandbox) -> None:
    before = zombies()
    sandbox.run([Program((GOOD,), TESTS), Program((FLOOD,), TESTS)] * 4)
    assert zombies() <= before


def test_unit_tests_run_too(sandbox: Sandbox) -> None:
    cases = "import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(-1), -1)"
    assert outcome(sandbox, GOOD, cases) == Outcome("passed")
    failed = outcome(sandbox, "def f(x):\n    return 1", cases)
    assert (failed.reason, "test_f failed" in failed.detail) == ("wrong", True)


def test_only_the_unit_tests_of_the_tests_count(sandbox: Sandbox) -> None:
    wrong_own_tests = (
        "import unittest\nclass Mine(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(1), 2)\n"
    )
    cases = "import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(-1), -1)"
    assert outcome(sandbox, wrong_own_tests + GOOD, cases) == Outcome("passed")
    expected = (
        "import unittest\nclass T(unittest.TestCase):\n    @unittest.expectedFailure\n    def test_f(self): f(None).x"
    )
    assert outcome(sandbox, GOOD, expected) == Outcome("passed")
    assert outcome(sandbox, "class X: x = 1\ndef f(x):\n    return X", expected).reason == "wrong"


def test_a_test_that_the_answer_skips_or_hides_has_not_passed(sandbox: Sandbox) -> None:
    cases = "import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(-1), -1)"
    skips = "import unittest\ndef f(x):\n    raise unittest.SkipTest('x')"
    hides = "import unittest\nunittest.TestLoader.testMethodPrefix = 'zzz'\ndef f(x):\n    return 1"
    breaks = "import unittest\nunittest.TestCase.run = lambda *_: None\ndef f(x):\n    return 1"
    late = "def f(x):\n    import unittest\n    raise unittest.SkipTest('跳过')"
    left_out = "import unittest\nclass T(unittest.TestCase):\n    def setUp(self): f(1)\n    def test_f(self): pass"
    programs = [Program((text,), cases) for text in (skips, hides, breaks, late)]
    outcomes = sandbox.run([*programs, Program((late,), left_out), Program((late,), left_out + "\nf(1)")])
    assert [each.reason for each in outcomes] == ["wrong"] * 5 + ["error"]
    assert "T.test_f failed, or did not run" in outcomes[0].detail


def test_a_test_that_the_tests_themselves_leave_out_is_no_failure(sandbox: Sandbox) -> None:
    cases = (
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(-1), -1)\n"
        "    @unittest.skip('slow')\n    def test_g(self): self.fail()"
    )
    assert outcome(sandbox, GOOD, cases) == Outcome("passed")
    assert outcome(sandbox, "def f(x):\n    return 1", cases).reason == "wrong"


def test_the_first_reading_that_compiles_is_run_and_results_keep_their_order(sandbox: Sandbox) -> None:
    readings = Program(("def f(x):\nreturn x", GOOD), TESTS)
    programs = [readings, Program((), TESTS), Program((GOOD,), "assert f(1) == 2"), Program((GOOD,), "这不是代码 ！")]
    assert [each.reason for each in sandbox.run(programs * 2)] == ["passed", "no_code", "wrong", None] * 2
    assert threading.active_count() < 10


def test_outcomes_follow_from_output_and_exit_code() -> None:
    assert outcome_of(b"t0k", b"t0k", 0, False) == Outcome("passed")
    assert outcome_of(b"t0k", b"t0k\n", 0, False).reason == "error"
    assert outcome_of(b"t0k", b"passed", 0, False).reason == "error"
    assert outcome_of(b"t0k", b"", 0, False) == Outcome("error", "it ended before its tests had passed")
    assert outcome_of(b"t0k", b"wrong\nAssertionError", 0, False) == Outcome("wrong", "AssertionError")
    assert outcome_of(b"t0k", b"memory", 0, False) == Outcome("memory")
    assert outcome_of(b"t0k", b"", 137, False) == Outcome("timeout")
    assert outcome_of(b"t0k", b"", -9, True) == Outcome("timeout")
    assert outcome_of(b"t0k", b"tests\nSyntaxError", 0, False).reason is None


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_of_system_calls_is_a_bpf_program(machine: str) -> None:
    text = seccomp_filter(MACHINES[machine])
    assert len(text) % 8 == 0
    assert len(text) // 8 < 64
    assert text[-8:] == bytes.fromhex("06000000") + (0x7FFF0000).to_bytes(4, "little")


def test_without_isolation_nothing_is_executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_programs, "find_bubblewrap", lambda: None)
    with pytest.raises(
        ConfigError, match=r"^evaluate\.code\.execute: answers cannot be isolated .* not executed: .* Install"
    ):
        open_sandbox(Limits(), setting="evaluate.code.execute")
    # one that starts programs without isolating them is noticed by the trial run
    pretender = tmp_path / "bwrap"
    pretender.write_text(f"#!/bin/sh\nexec {sys.executable} -s -P -S -B {harness.__file__}\n")
    pretender.chmod(0o755)
    monkeypatch.setattr(run_programs, "find_bubblewrap", lambda: pretender)
    with pytest.raises(ConfigError, match=r"the trial run in the sandbox failed: .*a program can open sockets"):
        open_sandbox(Limits(), setting="evaluate.code.execute")
