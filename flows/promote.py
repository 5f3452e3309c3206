"""Promotion with manual approval: a flow that waits, for teams that use Prefect's UI.

    prefect deployment run promote/approval --param version=3       # it pauses; resume it in the UI with `approve` and `why`

With `promote.automatic: false` candidates wait for this, or for `strop promote 3`.
"""

from __future__ import annotations

from contextlib import chdir

from prefect import flow, pause_flow_run
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed

from flows.steps import promote_version
from tasks.config import load_config

PATIENCE_SECONDS = 7 * 24 * 3600


class Approval(RunInput):
    """The input form for the approver."""

    approve: bool
    """Put this version into service?"""
    why: str
    """The reason, for the ledger."""
    approver: str = ""
    """Your name, for the ledger; empty: the user of the process that runs this flow."""


@flow(name="promote", description="Promotes a version after manual approval.")
def promote(version: int, project: str = ".") -> State:
    """Waits a week for the approval."""
    answer = pause_flow_run(wait_for_input=Approval, timeout=PATIENCE_SECONDS)
    if not answer.approve:
        return Completed(name="Declined", message=f"Version {version} was declined: {answer.why}")
    with chdir(project):
        promote_version(load_config(), version, answer.why, answer.approver)
    return Completed(name="Promoted", message=f"Version {version} is now champion: {answer.why}")
