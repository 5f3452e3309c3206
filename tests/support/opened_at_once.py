"""Four processes that open one registry at the same moment."""

from __future__ import annotations

import multiprocessing
from typing import Any

from tasks.config import load_config
from tasks.errors import RegistryError
from tasks.tracking.registry import open_registry


def open_in_four_processes() -> None:
    """Requires that each process opens the registry of params.yaml and reads its versions."""
    forked = multiprocessing.get_context("fork")  # a fresh start of Python and MLflow takes seconds for each
    ready, problems = forked.Barrier(4), forked.Queue()
    processes = [forked.Process(target=_open_and_look, args=(ready, problems)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert problems.empty(), problems.get()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]


def _open_and_look(ready: Any, problems: Any) -> None:
    ready.wait()
    try:
        open_registry(load_config()).versions()
    except RegistryError as error:
        problems.put(str(error))
