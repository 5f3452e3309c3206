"""Rows that several processes decode. Workers take the next row when they have room for one, and send each answer as soon as it is
complete. When one fails, the others are ended within a second.

On a CPU workers are forked, with one thread each: a forked worker shares all unchanged memory with its parent, so the weights are
in memory once. On GPUs each device has a worker: a new process, since CUDA does not survive a fork, which loads the weights.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import connection, get_context
from typing import Any

from tasks.inference.engine import WorkerKilled
from tasks.runtime.held_signals import release_signals, signals_held
from tasks.runtime.parent_watchdog import end_with_parent

Take = Callable[[], int | None]
Emit = Callable[[int, list[int]], None]
Decode = Callable[[Take, Emit], None]
"""Decodes the rows whose indices the first function returns, and passes each answer's tokens to the second."""
DecodeOn = Callable[[str, Take, Emit], None]
"""The same, on the device of this name."""

GRACE_SECONDS = 1.0
"""Time for a worker whose parent has ended, or that is no longer needed."""


def decode_rows(decode: Decode, order: Sequence[int], processes: int, emit: Emit) -> None:
    """Decodes all rows, in `processes` forked processes, or in this one if it is 1. Longest rows should come first.

    Raises:
        WorkerKilled: a worker ended without its result.
        Exception: the error of a worker.
    """
    if processes < 2 or not sys.platform.startswith("linux"):
        rows = iter(order)
        decode(lambda: next(rows, None), emit)
        return
    _run_workers("fork", [(_work_with_one_thread, decode)] * processes, order, emit)


def decode_on_devices(decode: DecodeOn, devices: Sequence[str], order: Sequence[int], emit: Emit) -> None:
    """Decodes all rows, with one process for each device. `decode` is pickled. Raises as `decode_rows`."""
    _run_workers("spawn", [(_work, partial(decode, device)) for device in devices], order, emit)


def _run_workers(method: str, jobs: Sequence[tuple[Any, Decode]], order: Sequence[int], emit: Emit) -> None:
    """Runs each function with its job in a worker."""
    context: Any = get_context(method)
    counter = context.Value("l", 0)
    workers: list[Any] = []
    pipes: list[connection.Connection] = []
    try:
        with warnings.catch_warnings(), signals_held():  # about threads while forking: they are idle and hold no locks
            warnings.simplefilter("ignore", DeprecationWarning)
            for work, decode in jobs:
                receiver, sender = context.Pipe(duplex=False)
                worker = context.Process(target=work, args=(decode, list(order), counter, sender), daemon=True)
                worker.start()
                sender.close()  # so that the pipe ends with its worker
                workers.append(worker)
                pipes.append(receiver)
        _collect(pipes, emit)
    finally:
        _end(workers)
        for pipe in pipes:
            pipe.close()


def _collect(pipes: Sequence[connection.Connection], emit: Emit) -> None:
    """Receives answers until all workers are done."""
    open_pipes = list(pipes)
    while open_pipes:
        for pipe in connection.wait(open_pipes):
            assert isinstance(pipe, connection.Connection)
            try:
                message = pipe.recv()
            except (EOFError, OSError) as error:
                raise WorkerKilled from error
            if message is None:
                open_pipes.remove(pipe)
            elif isinstance(message, BaseException):
                raise message
            else:
                emit(*message)


def _end(workers: Sequence[Any]) -> None:
    """Ends the workers that still run."""
    for worker in workers:
        if worker.is_alive():
            worker.terminate()
    for worker in workers:
        worker.join(GRACE_SECONDS)
        if worker.is_alive():
            worker.kill()
            worker.join()


def _work_with_one_thread(decode: Decode, order: Sequence[int], counter: Any, pipe: connection.Connection) -> None:
    """A forked worker."""
    import torch

    gc.freeze()  # existing objects stay unchanged, so their pages stay shared
    torch.set_num_threads(1)
    _work(decode, order, counter, pipe)


def _work(decode: Decode, order: Sequence[int], counter: Any, pipe: connection.Connection) -> None:
    """A worker: it ends with its parent, and ignores Ctrl-C (the parent ends it)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    release_signals()
    end_with_parent(GRACE_SECONDS)

    def take() -> int | None:
        with counter.get_lock():
            number: int = counter.value
            counter.value += 1
        return order[number] if number < len(order) else None

    try:
        decode(take, lambda index, tokens: pipe.send((index, tokens)))
        pipe.send(None)
    except Exception as error:  # noqa: BLE001 - raised again by the parent
        with contextlib.suppress(OSError):  # the parent has ended
            pipe.send(_as_message(error))
    finally:
        pipe.close()
        os._exit(0)  # neither buffers nor exit handlers of the parent


def _as_message(error: Exception) -> Exception:
    """The error, or its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
