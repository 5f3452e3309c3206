"""Runs jobs in this process and in forked worker processes; yields results in order.

A forked worker has all the memory of this process: it imports and loads nothing, and unchanged pages are shared. PyTorch's data
loaders do the same. Only for stages that run in a process of their own; on other systems than Linux, where libraries do not support
fork, this process works alone.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import pyarrow as pa

from tasks.errors import DataError
from tasks.runtime.cores import cores
from tasks.runtime.held_signals import release_signals, signals_held
from tasks.runtime.parent_watchdog import end_with_parent

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_PROCESSES = 8
"""The default limit."""
_JOBS_PER_WORKER = 2
"""Jobs queued per worker: the next one is ready when a worker finishes one."""
_work: Callable[[Any], Any]


def map_in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int | None, setting: str
) -> Iterator[Result]:
    """`work(job)` of every job, in order. Jobs are read as needed, so that few are in memory.

    Args:
        work: any callable, not pickled; jobs and results are pickled.
        processes: including this one; None: the number of cores, at most MAX_PROCESSES.
        setting: the user's setting for `processes`, for the message.

    Raises:
        DataError: a worker was killed.
    """
    jobs = iter(jobs)
    first_jobs = list(itertools.islice(jobs, 2))
    jobs = itertools.chain(first_jobs, jobs)
    workers = (processes or min(cores(), MAX_PROCESSES)) - 1
    if workers < 1 or len(first_jobs) < 2 or not sys.platform.startswith("linux"):
        yield from map(work, jobs)
        return
    pool = _start_pool(workers, work)
    if pool is None:
        yield from map(work, jobs)
        return
    pending: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            if sum(not future.done() for future in pending) < _JOBS_PER_WORKER * workers:
                pending.append(pool.submit(_do, job))
            else:
                pending.append(_run_here(work, job))
            while pending and (pending[0].done() or len(pending) > 4 * _JOBS_PER_WORKER * workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        what = "a worker process was killed, most likely because memory ran out"
        fix = f"Set {setting}: 1 in params.yaml, then run again: nothing is lost"
        raise DataError(what, where=setting, fix=fix) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_pool(workers: int, work: Callable[[Any], Any]) -> ProcessPoolExecutor | None:
    """A pool with all workers started; None, with a note, if that fails (a limit on processes or memory, no semaphores)."""
    before = set(active_children())
    try:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=_begin, initargs=(work,))
        with warnings.catch_warnings(), signals_held():  # about threads while forking: they are idle and hold no locks
            warnings.simplefilter("ignore", DeprecationWarning)
            pool.submit(os.getpid)  # starts all workers
        return pool
    except (OSError, ImportError, RuntimeError) as error:
        _kill(set(active_children()) - before)
        logger.warning(f"note: works in one process: no worker process could be started ({error})")
        return None
    except BaseException:
        _kill(set(active_children()) - before)
        raise


def _kill(workers: Iterable[BaseProcess]) -> None:
    """Kills workers that no pool manages."""
    for worker in workers:
        worker.kill()
        worker.join()


def _run_here(work: Callable[[Job], Result], job: Job) -> Future[Result]:
    """Runs a job in this process. An error is raised when its result is due, as for workers."""
    future: Future[Result] = Future()
    try:
        future.set_result(work(job))
    except Exception as error:  # noqa: BLE001 - handed on
        future.set_exception(error)
    return future


def _as_stream(table: pa.Table) -> tuple[Callable[[bytes], pa.Table], tuple[bytes]]:
    """Pickles a table as an IPC stream: pyarrow's own pickling also copies the buffers around a slice."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return _from_stream, (sink.getvalue().to_pybytes(),)


def _from_stream(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


ForkingPickler.register(pa.Table, _as_stream)


def _do(job: Any) -> Any:
    try:
        return _work(job)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - cannot be pickled: send its text, or the pool would break
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise


def _begin(work: Callable[[Any], Any]) -> None:
    """Initializes a worker: it ends with its parent, ignores Ctrl-C, and uses one core."""
    global _work
    _work = work
    gc.freeze()  # existing objects stay unchanged, so their pages stay shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    release_signals()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()
