"""A run on a snapshot: what is edited, deleted or checked out meanwhile belongs to the next run.

    with on_a_snapshot() as config:
        ...                             # in .strop/work, on the inputs as they were

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
"""What the process of the flow runs itself; stages are processes of their own, which import the snapshot's code."""

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
"""Modules that this process never imports: torch and scipy come with them."""


@contextmanager
def on_a_snapshot() -> Iterator[PipelineConfig]:
    """The folder of a run as the working directory, and its parameters. At the end the project has what the run made.

    Raises:
        StropError: there is no git repository, or params.yaml is wrong.
    """
    from tasks.workspace.run_folder import begin, hand_over

    load_code()
    work = begin()
    with chdir(work):
        config = load_config()
        try:
            yield config
        finally:
            with chdir(work):  # a thread that was interrupted may have been in the project
                hand_over()


@contextmanager
def in_the_project() -> Iterator[None]:
    """From the folder of a run back to the project, for what is not of the snapshot: sources, raw rows."""
    with chdir(project()):
        yield


def load_code() -> None:
    """Imports every module that this process may need, or code that is edited later would be imported half-way."""
    import flows
    import tasks

    for package in (flows, tasks, *(importlib.import_module(f"tasks.{room}") for room in ROOMS)):
        for module in pkgutil.iter_modules(package.__path__):
            name = f"{package.__name__}.{module.name}"
            if not module.ispkg and module.name != "__main__" and name not in IN_CHILDREN:
                importlib.import_module(name)
