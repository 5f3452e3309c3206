"""A run on a snapshot: what is edited, deleted or checked out meanwhile belongs to the next run.

    with on_a_snapshot() as config:
        ...                             # in .strop/work, on the inputs as they were

docs/decisions/0017-a-run-works-on-a-snapshot.md
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from tasks.config import PipelineConfig, load_config
from tasks.runtime.import_closure import import_closure
from tasks.runtime.run_origin import project

STARTS = ("flows/run_once.py", "flows/retrain.py", "flows/report/terminal.py")
"""What the process of a run executes; stages are processes of their own, which import the snapshot's code."""
IN_CHILDREN = frozenset(Path(f"tasks/base/{name}.py") for name in ("heads", "load", "precision"))
"""Modules that this process never imports: torch comes with them."""


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
    for module in import_closure(STARTS, IN_CHILDREN):
        importlib.import_module(".".join(module.with_suffix("").parts))
