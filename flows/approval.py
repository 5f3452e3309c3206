"""Starts the promotion flow for an approved version: on the team's server as a run of its deployment, else in this process.

result = promote_by_flow(3, why="I read 50 answers", who="ada")
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.runtime.environment import silence_libraries
from tasks.errors import StropError
from tasks.runtime.fast_imports import importing

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

DEPLOYMENT = "promote/approval"
"""In prefect.yaml."""
PATIENCE_SECONDS, POLL_SECONDS = 60.0, 1.0
"""For a worker of the deployment. A run that has not ended by then still promotes the version later."""
_PREFIX = re.compile(r"^Flow run encountered an exception:?\s*(\w+: )?")


@dataclass(frozen=True)
class FlowResult:
    version: int
    state: str
    """The flow run's state, `Promoted` if the version serves."""
    message: str
    flow_run: str | None = None
    """The name of a run of the deployment; None: it ran in this process."""


def promote_by_flow(version: int, why: str, who: str) -> FlowResult:
    """Runs the promotion flow for the project in the working directory.

    Raises:
        StropError: the version may not be promoted, or the server cannot be used.
    """
    silence_libraries()
    has_team_server = bool(os.environ.get("PREFECT_API_URL"))
    from flows.runtime.prefect_server import ensure_server, reporting_lost_server

    with reporting_lost_server():
        ensure_server()
        with importing():
            from flows.promote import promote
        run = _run_deployed({"version": version, "why": why, "who": who}) if has_team_server else None
        if run is not None:
            return result_of(run, version)
        message: object = promote(version, why, who, project=str(Path.cwd()))
        return FlowResult(version, "Promoted", str(message))


def _run_deployed(parameters: dict[str, object]) -> FlowRun | None:
    """A run of the deployment, after it has ended or PATIENCE_SECONDS; None if the server has no such deployment."""
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        run: FlowRun = run_deployment(
            DEPLOYMENT, parameters=parameters, timeout=PATIENCE_SECONDS, poll_interval=POLL_SECONDS, as_subflow=False
        )
    except ObjectNotFound:
        return None
    return run


def result_of(run: FlowRun, version: int) -> FlowResult:
    """Raises StropError if the flow run failed."""
    state = run.state
    name = (state and state.name) or "Pending"
    if state is None or not state.is_final():
        what = f"The flow run {run.name} will promote version {version}: it is {name.lower()}."
        return FlowResult(version, name, f"{what} It needs a worker: prefect worker start --pool strop", run.name)
    if not state.is_completed():
        reason = _PREFIX.sub("", state.message or "") or f"ended as {name}"
        raise StropError(reason, where=f"the flow run {run.name} of {DEPLOYMENT}", fix="See it in Prefect's UI")
    return FlowResult(version, name, state.message or "", run.name)
