"""The steps of a registration, in their order, as functions that a test can replace."""

from __future__ import annotations

from typing import Any

from tasks.register import logged_model, obtain_version, stage
from tasks.register import mlflow_run as run
from tasks.tracking.registry import Registry
from tasks.vcs import dvc_pipeline
from tasks.vcs import git as door

STEPS: list[tuple[Any, str]] = [
    (stage, "obtain_receipt"),
    (run, "read_points"),
    (obtain_version, "complete_run"),
    (logged_model, "log_in_subprocess"),
    (Registry, "create_version"),
    (stage, "make_snapshot_commit"),
    (door, "make_ref"),
    (Registry, "set_version_tags"),
    (Registry, "set_alias"),
    (dvc_pipeline, "push"),
]
