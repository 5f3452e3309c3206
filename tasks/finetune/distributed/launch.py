"""A training in several processes: starts them, passes signals on to them, and tells in one line what went wrong in one of them.

Each runs `python -m tasks.finetune.distributed.worker JOB`, with the environment that torch and accelerate read. Each trains on a
share of every batch; rank 0 logs and saves. None outlives this process (tasks/runtime/parent_watchdog.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.base.convert import base_folder
from tasks.errors import TrainingError
from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.finetune.distributed.accelerate_env import require_sharding, sharding_environment
from tasks.finetune.distributed.worker import error_file, error_from, log_file, write_job
from tasks.finetune.failures import Mishap
from tasks.finetune.job import Job
from tasks.finetune.loop.signals import Interrupted
from tasks.finetune.loop.thread_log import first_threads, training_name
from tasks.runtime.files import read_json

SECONDS_TO_FOLLOW = 20.0
"""What the others may take to end when one has failed: they may wait for it for ever."""
NODE = "STROP_NODE"


def node_number() -> int:
    """Which of several nodes this is, from 0."""
    told = os.environ.get(NODE, "0")
    if not told.isdigit():
        raise TrainingError(f"{NODE} is {told!r}", where="the environment", fix="Set it to 0, 1, ... on each node")
    return int(told)


def require_launch(settings: LaunchSettings) -> None:
    """Tells before any work what cannot be started.

    Raises:
        TrainingError: the configuration is not there or is of another strategy, or DeepSpeed is not installed, or there are
            fewer GPUs than processes, or this node is none of those that are launched.
    """
    if node_number() >= settings.nodes:
        what = f"{NODE} is {node_number()}, but finetune.launch.nodes is {settings.nodes}"
        raise TrainingError(what, where="the environment", fix="Count nodes from 0")
    if settings.all_processes == 1:
        return
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < settings.processes:
        what = f"finetune.launch.processes is {settings.processes}, but there are {torch.cuda.device_count()} GPUs"
        raise TrainingError(what, where="params.yaml", fix="Take a process a GPU")
    require_sharding(settings)


def launch(job: Job, settings: LaunchSettings) -> None:
    """Does the job in `settings.processes` processes.

    Raises:
        StropError: what the first of them to fail told.
        Interrupted: a signal ended it; a checkpoint is kept.
    """
    base_folder(job.work.record)  # a base that is converted is converted once
    job.work.checkpoints.mkdir(parents=True, exist_ok=True)
    path = write_job(job, node_number())
    name = training_name(job.work, job.trial)
    threads = first_threads(job.work, name, settings.processes, settings.nodes, node_number())
    children: list[subprocess.Popen[bytes]] = []
    with _passing_signals_on(children) as came:
        try:
            for environment in environments(settings):
                children.append(_start(path, {**environment, "OMP_NUM_THREADS": str(threads)}))
                for number in came:  # before this one was there
                    children[-1].send_signal(number)
            codes = _wait(children)
        finally:
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                child.wait()
    if (error := _error(path, codes, node_number() * settings.processes)) is not None:
        raise error


def environments(settings: LaunchSettings) -> list[dict[str, str]]:
    """What each process of this node finds in its environment: who it is, and where they meet."""
    host, _, port = (settings.address or f"127.0.0.1:{_free_port()}").rpartition(":")
    shared = {
        **os.environ,
        "MASTER_ADDR": host.strip("[]"),
        "MASTER_PORT": port,
        "WORLD_SIZE": str(settings.all_processes),
        "LOCAL_WORLD_SIZE": str(settings.processes),
        **sharding_environment(settings),
    }
    first = node_number() * settings.processes
    return [{**shared, "RANK": str(first + place), "LOCAL_RANK": str(place)} for place in range(settings.processes)]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _start(job: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    number = int(environment["RANK"])
    error_file(job, number).unlink(missing_ok=True)
    with log_file(job, number).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.finetune.distributed.worker", str(job)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=None if number == 0 else log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )


def _wait(children: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Waits for all to end, and once one has failed, a while for the others: their exit codes, None for one that still runs."""
    until = float("inf")
    while any(child.poll() is None for child in children) and time.monotonic() < until:
        if until == float("inf") and any(child.returncode for child in children):
            until = time.monotonic() + SECONDS_TO_FOLLOW
        time.sleep(0.05)
    return [child.poll() for child in children]


@contextlib.contextmanager
def _passing_signals_on(children: list[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Within the block SIGTERM and Ctrl-C go to the children, who save and end, or end at once (signals.py).

    Yields those that have come.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def handle(number: int, frame: Any) -> None:
        came.append(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _error(job: Path, codes: list[int | None], first: int) -> Exception | None:
    """What to tell: what a process told itself, else how one ended; None if all went well. `first` is the number of the first."""
    for number in range(first, first + len(codes)):
        if error_file(job, number).is_file():
            return error_from(read_json(error_file(job, number)))
    failed = [(code, first + place) for place, code in enumerate(codes) if code]
    if not failed:
        return None
    code, number = min(failed)  # one that was killed comes before those that then missed it
    if code in (-signal.SIGTERM, -signal.SIGINT):
        return Interrupted(None, -code)
    log = log_file(job, number)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    last = f" ({lines[-1][:200]})" if lines and code > 0 else ""
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}{last}"
    fix = f"Look into {log}; run again: it goes on from the last checkpoint"
    return Mishap(f"process {number} {how}", where="finetune", fix=fix)
