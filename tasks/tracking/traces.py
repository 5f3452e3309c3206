"""Traces of a served model's answers that people assessed, with their assessments."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.errors import RegistryError
from tasks.feedback.traces import RESPONSE_TAG
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.connection import all_pages, mlflow_errors, require_reachable, silence_mlflow
from tasks.tracking.login import login_within
from tasks.tracking.postgres import is_postgres, with_driver
from tasks.tracking.postgres_setup import require_schema
from tasks.tracking.sqlite_paths import absolute_path, absolute_uri, path_of
from tasks.tracking.sqlite_setup import prepare_file, require_newest_schema

if TYPE_CHECKING:
    from mlflow import MlflowClient


def require_experiment(uri: str, experiment: str) -> None:
    """Checks that the server or file has the experiment, without reading its traces.

    Raises:
        RegistryError: as `judged_traces`.
    """
    with opened_experiment(uri, experiment):
        pass


def judged_traces(uri: str, experiment: str, with_content: bool, only_people: bool = False) -> Iterator[dict[str, Any]]:
    """The traces of an experiment that were assessed, oldest first; assessments by an LLM judge and those that another one
    overrides do not count. Without those of a server of ours, whose feedback a source of kind `served` reads.

    Keys: "trace_id", "changed" (ms since 1970), "values" (feedback or expectation → its last value), "request" and
    "response". The last two are JSON text, and null without `with_content`.

    Args:
        only_people: only assessments of the source type HUMAN; an application that passes on its users' feedback has the type CODE,
            and so has a program's own.

    Raises:
        RegistryError: the server cannot be reached, the file is missing or of another version, or it has no such experiment.
    """
    with opened_experiment(uri, experiment) as (client, experiment_id):
        search = partial(
            client.search_traces,
            locations=[experiment_id],
            order_by=["timestamp_ms ASC"],
            include_spans=with_content,
        )
        for trace in all_pages(search):
            assessments = [a for a in trace.info.assessments if _counts(a, only_people)]
            assessments.sort(key=lambda a: a.last_update_time_ms or 0)
            if assessments and RESPONSE_TAG not in trace.info.tags:
                data = {"request": trace.data.request, "response": trace.data.response}
                changed = assessments[-1].last_update_time_ms or 0
                values = {a.name: a.value for a in assessments}
                yield {"trace_id": trace.info.trace_id, "changed": changed, "values": values, **data}


def _counts(assessment: Any, only_people: bool) -> bool:
    source = str(assessment.source.source_type)
    return assessment.valid is not False and ("HUMAN" in source if only_people else "JUDGE" not in source)


@contextlib.contextmanager
def opened_experiment(uri: str, experiment: str) -> Iterator[tuple[MlflowClient, str]]:
    """The client, and the id of the experiment; errors of MLflow within the block are converted."""
    uri = with_driver(absolute_uri(uri))  # as in `tracking_uri`
    path = path_of(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")  # prices of hosted models, from the network
    silence_mlflow()
    is_ours = path is not None and path == absolute_path(paths.REGISTRY_FOLDER / path.name)
    with login_within(uri) as address:
        require_reachable(address)
        with mlflow_errors(address, is_ours):
            if path is not None:
                _require_file(address, path, is_ours)
            elif is_postgres(address):
                require_schema(address)
            import mlflow

            client = mlflow.MlflowClient(address)
            record = client.get_experiment_by_name(experiment)
            if record is None:
                names = ", ".join(sorted(each.name for each in client.search_experiments(max_results=20)))
                fix = f"There are: {names}" if names else "Log traces to it first"
                raise RegistryError(f"has no experiment {experiment}", where=without_credentials(address), fix=fix)
            yield client, record.experiment_id


def _require_file(uri: str, path: Path, is_ours: bool) -> None:
    if not path.exists():
        raise RegistryError("no such file", where=str(path), fix="Fix the source's tracking_uri in params.yaml")
    if is_ours:
        prepare_file(uri, path)
    else:
        require_newest_schema(path)
