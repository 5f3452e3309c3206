"""Maps a function over chunks in several spawned processes, results in order; in this process where there is one chunk or one core.

Workers are spawned, not forked as those of process_pool.py: they start one at a time, and serve all batches.
"""

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
    """A pool of processes for a room, started when there are at least two jobs; to be closed."""

    def __init__(self, count: int, room: str) -> None:
        self.count, self.room = count, room
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """`function` of each job's arguments, in order. Jobs are read as results are taken: few are in memory at a time.

        Raises:
            DataError: a process was killed.
        """
        jobs = iter(jobs)
        first_jobs = list(itertools.islice(jobs, 2))
        jobs = itertools.chain(first_jobs, jobs)
        if self.count < 2 or len(first_jobs) < 2:
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
            what = f"a worker process of {self.room} was killed, most likely because memory ran out"
            fix = f"Set {self.room}.processes: 1 in params.yaml, then run again: nothing is lost"
            raise DataError(what, fix=fix) from error
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context, arguments = multiprocessing.get_context("spawn"), (self.room, plugin_names())
            self._pool = ProcessPoolExecutor(
                self.count, mp_context=context, initializer=_start_worker, initargs=arguments
            )
        return self._pool


def _start_worker(room: str, plugins: tuple[str, ...]) -> None:
    """A worker loads its parent's plugins, exits with it, ignores Ctrl-C, and uses one core."""
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.parent_watchdog import end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    set_up_logs(room)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    load_plugins(plugins, Path.cwd())
    import pyarrow as pa

    pa.set_cpu_count(1)
