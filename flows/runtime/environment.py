"""Sets the environment of libraries before they are imported: no telemetry, little output.

All values are defaults: existing environment variables win.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from tasks import paths
from tasks.runtime.logs.libraries import level_of
from tasks.runtime.loopback import exempt_loopback_from_proxies
from tasks.runtime.redaction.errors_and_logs import install as install_redaction

QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_MODEL_CATALOG_URI": "",  # prices of hosted models, from the network
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # its "View run ... at:" prints the registry's address
    "MPLBACKEND": "agg",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}

PREFECT_FOLDER = paths.CACHE / "prefect"
SCHEDULED = "STROP_SCHEDULED"
"""The variable that is set in the runs of `strop schedule`."""


def prepare_environment(root: Path) -> None:
    """Sets the defaults, gives Prefect a home in the project, and puts this Python first on PATH for DVC's stages.

    A user's own Prefect home, profile or server is kept. Servers on this machine are reached without a proxy.
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


def silence_libraries() -> None:
    """Prefect logs only to its API; deprecation warnings of libraries are hidden (tasks/runtime/logs/libraries.py: the levels)."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning,ignore::DeprecationWarning,ignore::UserWarning")
    level = logging.getLevelName(level_of("prefect"))
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", level)
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", level)  # a lost server is reported once, by Strop
    logging.raiseExceptions = False  # and no errors about logs that could not be sent


def is_scheduled() -> bool:
    """Whether this process is a run of `strop schedule`."""
    return bool(os.environ.get(SCHEDULED))


def end_with_schedule() -> None:
    """Makes a scheduled run end when the process of the schedule ends, for any reason."""
    if is_scheduled():
        from tasks.runtime.parent_watchdog import SECONDS_TO_SAVE, end_with_parent

        end_with_parent(SECONDS_TO_SAVE)  # its stage may be a training


def _has_own_prefect() -> bool:
    is_set = any(os.environ.get(name) for name in ("PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_API_URL"))
    return is_set or (Path.home() / ".prefect" / "profiles.toml").exists()
