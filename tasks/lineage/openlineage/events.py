"""OpenLineage events as JSON: the start and the end of a run and of each of its stages. Pure, but for new ids and the time.

    job = Job("strop-model", "curate", source=Source("git@host:team/project.git", commit))
    event("START", job, new_run_id(), now(), parent=Parent(id_of_the_run, RUN), inputs={"data/raw": "2edb….dir"})

The namespace of jobs and datasets is `strop://` with the name of the registered model. A dataset is named by its path in the
project, and its version is DVC's hash; a registered model is a dataset with its number as version.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

State = Literal["START", "COMPLETE", "FAIL"]
PRODUCER = "https://pypi.org/project/strop"
RUN = "retrain"
"""The job of a whole run."""


@dataclass(frozen=True)
class Source:
    """Where the code of a run is."""

    url: str
    """Of the git remote, without credentials; of the project's folder where there is no remote."""
    commit: str


@dataclass(frozen=True)
class Parent:
    run_id: str
    job: str


@dataclass(frozen=True)
class Job:
    model: str
    name: str
    source: Source | None = None

    @property
    def namespace(self) -> str:
        return f"strop://{self.model}"


def new_run_id() -> str:
    return str(uuid.uuid4())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def event(
    state: State,
    job: Job,
    run_id: str,
    when: str,
    *,
    parent: Parent | None = None,
    inputs: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
    is_cached: bool | None = None,
    error: str = "",
) -> str:
    """An event as one line of JSON. The library is imported here, which takes a second: call it in the thread that sends.

    Args:
        inputs, outputs: name of a dataset → its version.
        is_cached: True: the stage was up to date, so nothing ran. None: not known.
        error: why the run failed.
    """
    from openlineage.client import event_v2
    from openlineage.client.serde import Serde

    run = event_v2.Run(run_id, _run_facets(job, parent, is_cached, error))
    made = event_v2.RunEvent(
        eventTime=when,
        producer=PRODUCER,
        eventType=event_v2.RunState(state),
        run=run,
        job=event_v2.Job(job.namespace, job.name, _job_facets(job)),
        inputs=[event_v2.InputDataset(job.namespace, name, facets=facets) for name, facets in _datasets(inputs)],
        outputs=[event_v2.OutputDataset(job.namespace, name, facets=facets) for name, facets in _datasets(outputs)],
    )
    return str(Serde.to_json(made))


def _datasets(versions: dict[str, str] | None) -> list[tuple[str, dict[str, Any]]]:
    from openlineage.client.facet_v2 import dataset_version_dataset as facet

    return [
        (name, {"version": facet.DatasetVersionDatasetFacet(datasetVersion=version, producer=PRODUCER)})
        for name, version in sorted((versions or {}).items())
    ]


def _job_facets(job: Job) -> dict[str, Any]:
    from openlineage.client.facet_v2 import job_type_job, source_code_location_job

    kind = "RUN" if job.name == RUN else "STAGE"
    facets: dict[str, Any] = {
        "jobType": job_type_job.JobTypeJobFacet("BATCH", "STROP", kind, producer=PRODUCER),
    }
    if job.source is not None:
        facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
            type="git", url=job.source.url, version=job.source.commit, producer=PRODUCER
        )
    return facets


def _run_facets(job: Job, parent: Parent | None, is_cached: bool | None, error: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import error_message_run, parent_run, tags_run

    facets: dict[str, Any] = {}
    if parent is not None:
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(parent.run_id), job=parent_run.Job(job.namespace, parent.job), producer=PRODUCER
        )
    if is_cached is not None:
        tag = tags_run.TagsRunFacetFields("cached", str(is_cached).lower(), "STROP")
        facets["tags"] = tags_run.TagsRunFacet([tag], producer=PRODUCER)
    if error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(error, "PYTHON", producer=PRODUCER)
    return facets
