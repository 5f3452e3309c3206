"""A run on a snapshot: later changes in the project (edits, deletions, checkouts) belong to the next run.

    with on_a_snapshot() as config:
        ...                             # in .strop/work, on the inputs at the start of the run

docs/decisions/0017-a-run-works-on-a-snapshot.md
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tasks.config import PipelineConfig, load_config
from tasks.runtime.import_closure import import_closure
from tasks.runtime.logs.formats import RUN
from tasks.runtime.run_origin import current_snapshot, project

logger = logging.getLogger(__name__)

ENTRY_POINTS = ("flows/run_once.py", "flows/retrain.py", "flows/report/terminal.py")
ONLY_IN_STAGES = frozenset(
    {
        *(Path(f"tasks/base/{name}.py") for name in ("heads", "load", "precision")),
        Path("flows/preflight/training_checks.py"),
        Path("tasks/inference/faults.py"),
        Path("tasks/register/reload_check.py"),
        Path("tasks/evaluate/judge/local.py"),
    }
)
"""Modules with torch, which the flow's process never imports: stages and these checks run in processes of their own."""


@contextmanager
def on_a_snapshot() -> Iterator[PipelineConfig]:
    """Changes to the folder of a run, and yields its parameters. At the end, the run's files are copied to the project.

    Raises:
        StropError: there is no git repository, or params.yaml is invalid.
    """
    from tasks.workspace.run_folder import begin, hand_over

    load_code()
    work = begin()
    with chdir(work), _naming_the_run():
        config = load_config()
        try:
            yield config
        finally:
            with chdir(work):  # an interrupted thread may have changed to the project
                hand_over()


@contextmanager
def _naming_the_run() -> Iterator[None]:
    """Sets the run's id for log lines, in child processes too: its start and its snapshot."""
    snapshot = current_snapshot()
    assert snapshot is not None
    os.environ[RUN] = f"{datetime.fromtimestamp(snapshot.began / 1e9, UTC):%Y%m%dT%H%M%SZ}-{snapshot.tree[:8]}"
    logger.debug(f"run {os.environ[RUN]} in {Path.cwd()}")
    try:
        yield
    finally:
        os.environ.pop(RUN, None)


def in_the_project() -> chdir[Path]:
    """Changes from the folder of a run to the project, for files outside the snapshot: sources, raw rows."""
    return chdir(project())


def load_code() -> None:
    """Imports all modules that this process may need: a later import could load code that was edited during the run."""
    for module in import_closure(ENTRY_POINTS, ONLY_IN_STAGES):
        importlib.import_module(".".join(module.with_suffix("").parts).removesuffix(".__init__"))
