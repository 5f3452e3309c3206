"""Work is shared out between processes without anyone noticing: in order, with its errors, and nothing is left behind."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import psutil
import pyarrow as pa
import pytest

from tasks.errors import ConfigError, DataError
from tasks.runtime.process_pool import map_in_processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere one process works alone")


BEFORE = set[int]()
"""Processes that an earlier test in this one keeps: a server, a pool."""


@pytest.fixture(autouse=True)
def _who_was_there_before() -> None:
    BEFORE.clear()
    BEFORE.update(child.pid for child in psutil.Process().children())


def assert_none_is_left() -> None:
    assert [child for child in psutil.Process().children() if child.pid not in BEFORE] == []


def shared(work: Any, jobs: Any, processes: int = 3) -> list[Any]:
    return list(map_in_processes(work, jobs, processes, "render.processes"))


def test_results_come_in_order_from_several_processes() -> None:
    all_begun = get_context("fork").Barrier(3, timeout=60)
    begun: set[int] = set()

    def work(job: int) -> tuple[int, int]:
        if os.getpid() not in begun:
            begun.add(os.getpid())
            all_begun.wait()
        time.sleep(0.02 if job % 5 == 0 else 0.001)
        return job * job, os.getpid()

    made = shared(work, range(40))
    assert [square for square, _ in made] == [job * job for job in range(40)]
    assert len({process for _, process in made}) == 3
    assert os.getpid() in {process for _, process in made}
    assert_none_is_left()


def test_a_single_job_and_a_single_process_stay_here() -> None:
    assert shared(lambda _: os.getpid(), [1]) == [os.getpid()]
    assert shared(lambda _: os.getpid(), range(9), processes=1) == [os.getpid()] * 9
    assert shared(lambda _: os.getpid(), []) == []


def test_jobs_are_taken_up_as_they_are_worked_off() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(500):
            taken.append(number)
            yield number

    results = map_in_processes(lambda job: job, jobs(), 2, "render.processes")
    for number in range(100):
        assert next(results) == number
        assert len(taken) <= number + 12
    results.close()  # type: ignore[attr-defined]
    assert_none_is_left()


def test_a_slice_travels_without_what_lies_around_it() -> None:
    whole = pa.table({"text": ["城市 " * 1000] * 500, "number": list(range(500))})
    jobs = [whole.slice(start, 2) for start in range(0, 20, 2)]
    made = shared(lambda job: (job, len(job["text"].chunk(0).buffers()[2] or b"")), jobs)
    assert [table for table, _ in made] == jobs
    assert any(size < 50_000 for _, size in made)


@pytest.mark.parametrize("place", [0, 1, 2, 7])
def test_an_error_comes_through_in_whichever_process_it_happens(place: int) -> None:
    def work(job: int) -> int:
        if job == place:
            raise ConfigError(f"job {job} is wrong", where="a template", fix="Mend it")
        return job

    with pytest.raises(ConfigError, match=rf"job {place} is wrong\. Mend it"):
        shared(work, range(8))
    assert_none_is_left()


def test_a_process_that_is_killed_is_told_of_in_one_line() -> None:
    here = os.getpid()

    def work(job: int) -> int:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    with pytest.raises(DataError, match=r"a worker process was killed.*Set render\.processes: 1 in params\.yaml"):
        shared(work, range(8))


class Unpicklable(Exception):
    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} {why}")


def test_an_error_that_cannot_travel_is_told_as_what_it_says() -> None:
    here = os.getpid()

    def work(job: int) -> int:
        if os.getpid() != here:
            raise Unpicklable("the template", "is wrong")
        time.sleep(0.1)
        return job

    with pytest.raises(RuntimeError, match="the template is wrong"):
        shared(work, range(20))


@pytest.mark.parametrize("error", [BlockingIOError(11, "Resource temporarily unavailable"), KeyboardInterrupt()])
def test_what_stops_the_start_of_the_copies_leaves_none_behind(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, forks = os.fork, itertools.count(1)

    def failing() -> int:
        if next(forks) == 2:
            raise error
        return fork()

    monkeypatch.setattr(os, "fork", failing)
    if isinstance(error, OSError):  # this process does the work alone
        assert shared(lambda job: os.getpid(), range(9)) == [os.getpid()] * 9
    else:
        with pytest.raises(KeyboardInterrupt):
            shared(lambda job: job, range(9))
    assert_none_is_left()
