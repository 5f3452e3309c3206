"""Settings of other people's tools that Strop makes before they are imported: nothing is sent home, nothing chatters.

Each is a default: what stands in the environment already goes before it.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from tasks import paths
from tasks.runtime.loopback import exempt_loopback_from_proxies
from tasks.runtime.redaction.errors_and_logs import install as install_redaction

QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # its "View run ... at:" tells the registry's address
    "MPLBACKEND": "agg",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}

PREFECT_FOLDER = paths.CACHE / "prefect"
SCHEDULED = "STROP_SCHEDULED"
"""The variable that marks the runs of `strop schedule`."""


def prepare_environment(root: Path) -> None:
    """Sets the quiet defaults, gives Prefect a home in the project, and lets DVC's stages find this Python.

    A user who already has a Prefect home, profile or server keeps it. Servers on this machine are reached without a proxy.
    """
    exempt_loopback_from_proxies()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    install_redaction()
    if not _has_own_prefect():
        os.environ["PREFECT_HOME"] = str(root / PREFECT_FOLDER)
    folder = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])


def show_only_our_lines() -> None:
    """In a command of ours the terminal holds the stages' own lines and the summary.

    Prefect's log goes to its API only. Warnings by which libraries tell their developers of a coming change are left out.
    """
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning,ignore::DeprecationWarning,ignore::UserWarning")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")  # of a server that is gone, we report once
    logging.raiseExceptions = False  # nor that its log could not be sent there


def is_scheduled() -> bool:
    """Whether this process is a run of `strop schedule`."""
    return bool(os.environ.get(SCHEDULED))


def end_with_schedule() -> None:
    """In a run of a schedule: it ends when the schedule's process does, however that ends."""
    if is_scheduled():
        from tasks.runtime.parent_watchdog import SECONDS_TO_SAVE, end_with_parent

        end_with_parent(SECONDS_TO_SAVE)  # a stage of it may train


def _has_own_prefect() -> bool:
    named = any(os.environ.get(name) for name in ("PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_API_URL"))
    return named or (Path.home() / ".prefect" / "profiles.toml").exists()
