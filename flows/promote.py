"""The promotion flow: puts a version into service that a person approved. It waits for nobody.

    strop approve 3 --why "I read 50 answers"        # starts it
    prefect deployment run promote/approval --param version=3 --param why="I read 50 answers" --param who=ada

In Prefect's UI it is the deployment `approval`, whose form requests version and reason.
"""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.steps import approve_version, working_in
from tasks.config import load_config


@flow(name="promote", description="Promotes a version that a person approved.")
def promote(version: int, why: str, who: str = "", project: str = ".") -> State:
    """Fails if the version does not wait for approval any more.

    Args:
        why: the reason, for the ledger.
        who: the approver; empty: the user of the process that runs this flow.
    """
    with working_in(project, is_exclusive=False):
        entry = approve_version(load_config(), version, why, who)
    message = f"Version {version} is now champion: {entry.approval}"
    state: State = Completed(name="Promoted", message=message, data=message)
    return state
