"""A run on a snapshot: later changes in the project (edits, deletions, checkouts) belong to the next run.

    with on_a_snapshot() as config:
        ...                             # in .strop/work, on the inputs at the start of the run

docs/decisions/0017-a-run-works-on-a-snapshot.md
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import chdir, contextmanager

from tasks.config import PipelineConfig, load_config
from tasks.runtime.run_origin import project

ROOMS = ("base", "ingest", "lineage", "promote", "register", "tracking")
"""Rooms that run in the flow's process; stages run in processes of their own, which import the snapshot's code."""

STAGES_ALONE = (
    *("answer_loops", "answer_text", "answer_tokens", "decoding", "helpers", "judging", "memory", "similarity"),
    *("statistics", "target_forms", "targets"),
)
IN_CHILDREN = (
    "tasks.base.load",
    "tasks.base.heads",
    "tasks.base.precision",
    *(f"tasks.{name}" for name in STAGES_ALONE),
)
"""Modules that this process never imports: they import torch and scipy."""


@contextmanager
def on_a_snapshot() -> Iterator[PipelineConfig]:
    """Changes to the folder of a run, and yields its parameters. At the end, the run's files are copied to the project.

    Raises:
        StropError: there is no git repository, or params.yaml is invalid.
    """
    from tasks.workspace.run_folder import begin, hand_over

    load_code()
    work = begin()
    with chdir(work):
        config = load_config()
        try:
            yield config
        finally:
            with chdir(work):  # an interrupted thread may have changed to the project
                hand_over()


@contextmanager
def in_the_project() -> Iterator[None]:
    """Changes from the folder of a run to the project, for files outside the snapshot: sources, raw rows."""
    with chdir(project()):
        yield


def load_code() -> None:
    """Imports all modules that this process may need: a later import could load code that was edited during the run."""
    import flows
    import tasks

    for package in (flows, tasks, *(importlib.import_module(f"tasks.{room}") for room in ROOMS)):
        for module in pkgutil.iter_modules(package.__path__):
            name = f"{package.__name__}.{module.name}"
            if not module.ispkg and module.name != "__main__" and name not in IN_CHILDREN:
                importlib.import_module(name)
