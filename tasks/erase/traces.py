"""The traces of served responses in MLflow: those of erased ones are removed."""

from __future__ import annotations

from collections.abc import Collection

from filelock import Timeout

from tasks import paths
from tasks.config import load_config
from tasks.errors import RegistryError, StropError
from tasks.feedback.spool import delivery_lock
from tasks.tracking.served_traces import open_traces

WAIT_SECONDS = 300.0
"""For a delivery that is under way."""


def remove_traces(responses: Collection[str], command: str) -> int:
    """Removes the traces of responses, and what people said of them there; returns the number of those that there were.

    Their ids are in the list of erased ones already: no delivery after the one that is under way stores them again.

    Raises:
        RegistryError: the registry cannot be reached, or does not let this login delete a trace.
    """
    if not responses:
        return 0
    fix = f"Fix that, then complete the erasure: {command}"
    try:
        with delivery_lock(paths.SPOOL).acquire(timeout=WAIT_SECONDS):
            traces = open_traces(load_config())
            return 0 if traces is None else traces.remove(responses)
    except Timeout as error:
        what = "the texts may still be in traces of MLflow (a delivery of records does not end)"
        raise RegistryError(what, where=str(paths.SPOOL), fix=fix) from error
    except StropError as error:
        what = f"the texts may still be in traces of MLflow ({error.what})"
        raise RegistryError(what, where=error.where, fix=fix) from error
