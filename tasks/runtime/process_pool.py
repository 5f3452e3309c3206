"""Work shared out between this process and copies of it (fork), its results in order.

A copy begins with all that this process holds, so that it neither imports nor loads anything, and what it does not change is in
memory once. PyTorch's data loaders work the same way. It is for stages that run as a process of their own; elsewhere than on Linux,
where libraries do not bear a fork, this process works alone.
"""

from __future__ import annotations

import gc
import itertools
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
from tasks.runtime.parent_watchdog import end_with_parent
from tasks.runtime.progress import say

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST = 8
"""Processes, where nobody says how many."""
_AHEAD = 2
"""Jobs that a copy has at a time: the next one lies ready when it has finished one."""
_work: Callable[[Any], Any]


def shared_out(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int | None, setting: str
) -> Iterator[Result]:
    """`work` of each job, in order. Jobs are taken up as they are worked off: few are held at a time.

    Args:
        work: may hold anything; jobs and results are pickled.
        processes: this one among them; None: as many as there are cores, and no more than MOST.
        setting: where a user says how many.

    Raises:
        DataError: a process was ended from outside.
    """
    jobs = iter(jobs)
    beginning = list(itertools.islice(jobs, 2))
    jobs = itertools.chain(beginning, jobs)
    copies = (processes or min(cores(), MOST)) - 1
    if copies < 1 or len(beginning) < 2 or not sys.platform.startswith("linux"):
        yield from map(work, jobs)
        return
    pool = _started(copies, work)
    if pool is None:
        yield from map(work, jobs)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            if sum(not each.done() for each in waiting) < _AHEAD * copies:
                waiting.append(pool.submit(_do, job))
            else:
                waiting.append(_done_here(work, job))
            while waiting and (waiting[0].done() or len(waiting) > 4 * _AHEAD * copies):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        what = "a process was ended from outside, most likely because memory ran out"
        fix = f"Set {setting}: 1 in params.yaml, then run again: nothing is lost"
        raise DataError(what, where=setting, fix=fix) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _started(copies: int, work: Callable[[Any], Any]) -> ProcessPoolExecutor | None:
    """All running; None, and told, where the system has none to give: a limit on processes or memory, no semaphores."""
    before = set(active_children())
    try:
        pool = ProcessPoolExecutor(copies, mp_context=get_context("fork"), initializer=_begin, initargs=(work,))
        with warnings.catch_warnings():  # of threads while forking: those that there are wait, and hold nothing
            warnings.simplefilter("ignore", DeprecationWarning)
            pool.submit(_do_nothing)
        return pool
    except (OSError, ImportError, RuntimeError) as error:
        _end(set(active_children()) - before)
        say(f"note: works in one process, for no other could be started ({error})")
        return None
    except BaseException:
        _end(set(active_children()) - before)
        raise


def _end(copies: Iterable[BaseProcess]) -> None:
    """Ends copies that nobody else knows of."""
    for copy in copies:
        copy.kill()
        copy.join()


def _done_here(work: Callable[[Job], Result], job: Job) -> Future[Result]:
    """A mistake is told when its turn comes, as those of the copies are."""
    done: Future[Result] = Future()
    try:
        done.set_result(work(job))
    except Exception as error:  # noqa: BLE001 - handed on
        done.set_exception(error)
    return done


def _as_stream(table: pa.Table) -> tuple[Callable[[bytes], pa.Table], tuple[bytes]]:
    """How a table goes to another process: pyarrow's own pickling takes all that lies around a slice along."""
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
        except Exception:  # noqa: BLE001 - told as what it says, or the pool would count as broken
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise


def _do_nothing() -> None:
    pass


def _begin(work: Callable[[Any], Any]) -> None:
    """A copy ends with its parent, leaves Ctrl-C to it, and uses one core."""
    global _work
    _work = work
    gc.freeze()  # what was there stays as it is, shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()
