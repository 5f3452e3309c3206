"""Work on chunks in several processes, its results in order; in this process where there is one chunk, or one core."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import DataError
from tasks.runtime.plugins import load_plugins, plugin_names

Result = TypeVar("Result")


class Workers:
    """Processes, started when there is work for two; to be closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """`function` of each job's arguments, in order. Jobs are taken up as they are worked off: few are held at a time.

        Raises:
            DataError: a process was ended from outside.
        """
        jobs = iter(jobs)
        beginning = list(itertools.islice(jobs, 2))
        jobs = itertools.chain(beginning, jobs)
        if self.count < 2 or len(beginning) < 2:
            yield from (function(*job) for job in jobs)
            return
        pool = self._started()
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(function, *job))
                if len(waiting) > self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            what = "a process that judges rows was ended from outside, most likely because memory ran out"
            raise DataError(
                what, fix="Set validate.processes: 1 in params.yaml, then run again: nothing is lost"
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # not a fork (tasks/runtime/process_pool.py): they begin one at a time, and stay for all batches
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.count, mp_context=context, initializer=_begin, initargs=(plugin_names(),)
            )
        return self._pool


def _begin(plugins: tuple[str, ...]) -> None:
    """A worker has the plugins of its parent, ends with it, leaves Ctrl-C to it, and uses one core."""
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.parent_watchdog import end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    set_up_logs("validate")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    load_plugins(plugins, Path.cwd())
    import pyarrow as pa

    pa.set_cpu_count(1)
