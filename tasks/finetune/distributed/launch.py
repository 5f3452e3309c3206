"""Starts a training in several processes, forwards signals to them, and reports the error of a failed one in one line.

Each runs `python -m tasks.finetune.distributed.worker JOB`, with the environment that torch and accelerate read, and trains on a
share of each batch; rank 0 logs and saves. No process outlives this one (tasks/runtime/parent_watchdog.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
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
from tasks.finetune.loop.signals import Interrupted, handling_signals
from tasks.finetune.loop.thread_log import first_threads, training_name
from tasks.runtime.files import read_json

SECONDS_AFTER_FAILURE = 20.0
"""Time for the other processes to end after one has failed; they may wait for it forever."""
NODE = "STROP_NODE"


def node_number() -> int:
    """Number of this node, from 0."""
    value = os.environ.get(NODE, "0")
    if not value.isdigit():
        raise TrainingError(f"{NODE} is {value!r}", where="the environment", fix="Set it to 0, 1, ... on each node")
    return int(value)


def require_launch(settings: LaunchSettings) -> None:
    """Checks, before any work, that the processes can be started.

    Raises:
        TrainingError: the configuration is missing or for another strategy, DeepSpeed is not installed, there are fewer GPUs than
            processes, or the number of this node is too high.
    """
    if node_number() >= settings.nodes:
        what = f"{NODE} is {node_number()}, but finetune.launch.nodes is {settings.nodes}"
        raise TrainingError(what, where="the environment", fix="Count nodes from 0")
    if settings.all_processes == 1:
        return
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < settings.processes:
        what = f"finetune.launch.processes is {settings.processes}, but there are {torch.cuda.device_count()} GPUs"
        raise TrainingError(what, where="params.yaml", fix="Set one process per GPU")
    require_sharding(settings)


def launch(job: Job, settings: LaunchSettings) -> None:
    """Runs the job in `settings.processes` processes.

    Raises:
        StropError: the error of the first failed process.
        Interrupted: a signal ended it; a checkpoint is saved.
    """
    base_folder(job.work.record)  # so that a base is converted only once
    job.work.checkpoints.mkdir(parents=True, exist_ok=True)
    path = write_job(job, node_number())
    name = training_name(job.work, job.trial)
    threads = first_threads(job.work, name, settings.processes, settings.nodes, node_number())
    children: list[subprocess.Popen[bytes]] = []
    with _forwarding_signals(children) as received:
        try:
            for environment in environments(settings):
                children.append(_start(path, {**environment, "OMP_NUM_THREADS": str(threads)}))
                for number in received:  # before this process was started
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
    """The environment of each process of this node: its rank and the rendezvous address."""
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
    return [{**shared, "RANK": str(first + rank), "LOCAL_RANK": str(rank)} for rank in range(settings.processes)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start(job: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    number = int(environment["RANK"])
    error_file(job, number).unlink(missing_ok=True)
    with log_file(job, number).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.finetune.distributed.worker", str(job)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2 if number == 0 else log,  # the log lines of rank 0 are shown: worker.py
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches only this process, which forwards it once
        )


def _wait(children: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Waits for all processes, after a failure for a limited time. Returns their exit codes; None for one that still runs."""
    until = float("inf")
    while any(child.poll() is None for child in children) and time.monotonic() < until:
        if until == float("inf") and any(child.returncode for child in children):
            until = time.monotonic() + SECONDS_AFTER_FAILURE
        time.sleep(0.05)
    return [child.poll() for child in children]


@contextlib.contextmanager
def _forwarding_signals(children: list[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Forwards SIGTERM and Ctrl-C to the children within the block; these save and exit, or exit immediately (signals.py).

    Yields the list of received signals.
    """
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        received.append(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    with handling_signals(handle):
        yield received


def _error(job: Path, codes: list[int | None], first: int) -> Exception | None:
    """The error that a process reported, else how one ended; None without errors. `first` is the rank of the first process."""
    for number in range(first, first + len(codes)):
        if error_file(job, number).is_file():
            return error_from(read_json(error_file(job, number)))
    failed = [(code, first + index) for index, code in enumerate(codes) if code]
    if not failed:
        return None
    # a killed process has a negative code, so it comes before those that failed because of it
    code, number = min(failed)
    if code in (-signal.SIGTERM, -signal.SIGINT):
        return Interrupted(None, -code)
    log = log_file(job, number)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    last = f" ({lines[-1][:200]})" if lines and code > 0 else ""
    reason = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}{last}"
    fix = f"See {log}; run again: training resumes from the last checkpoint"
    return Mishap(f"process {number} {reason}", where="finetune", fix=fix)
