"""Traces of what a server answered, in the experiment of the model: each response once, with the feedback on it as assessments.

    traces = open_traces(config)            # None: there is no registry yet
    traces.add([trace_of(response)])
    traces.add_feedback([feedback])
    traces.remove(["resp_…"])

What is stored already stays as it is, so everything may be delivered again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tasks.errors import RegistryError
from tasks.feedback.conventions import FEEDBACK_ID, FEEDBACK_WHEN
from tasks.feedback.records import Feedback
from tasks.feedback.traces import RESPONSE_TAG, REVIEW_TAG, ServedTrace, trace_id_of
from tasks.tracking.connection import mlflow_errors
from tasks.tracking.registry import Registry, open_registry, tracking_uri
from tasks.tracking.sqlite_paths import path_of
from tasks.tracking.trace_entities import assessment_entity, span_entity

if TYPE_CHECKING:
    from mlflow.tracing.client import TracingClient

    from tasks.config import PipelineConfig

REMOVED_AT_ONCE = 100
REFUSED = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")
"""Codes of MLflow's errors about the content of a request."""
MISSING = "RESOURCE_DOES_NOT_EXIST"


def open_traces(config: PipelineConfig) -> ServedTraces | None:
    """The traces in the experiment of the model; None without a registry: a file is not created.

    Raises:
        RegistryError: it cannot be reached, or is no registry.
    """
    path = path_of(tracking_uri(config))
    if path is not None and not path.exists():
        return None
    return ServedTraces(open_registry(config))


@dataclass
class ServedTraces:
    registry: Registry
    keeps_tags: bool = False
    """Whether the server is known to keep the tags of traces."""

    @property
    def destination(self) -> str:
        """Differs from that of any other registry, also of one that was made again at the same address."""
        registry = self.registry
        with mlflow_errors(registry.uri):
            experiment = registry.client.get_experiment(registry.experiment_id)
        return f"{registry.address} {registry.experiment_id} {experiment.creation_time}"

    def add(self, traces: Sequence[ServedTrace]) -> list[str]:
        """Stores traces; returns the ids of responses whose texts MLflow refused: their traces have none.

        Raises:
            RegistryError: they are not stored, or not all of them.
        """
        from mlflow.exceptions import MlflowException

        if not traces:
            return []
        with mlflow_errors(self.registry.uri):
            try:
                self._log(traces)
                return []
            except MlflowException as error:
                if error.error_code not in REFUSED:
                    raise
            refused = []
            for trace in traces:
                try:
                    self._log([trace])
                except MlflowException as error:
                    if error.error_code not in REFUSED:
                        raise
                    self._log(
                        [replace(trace, inputs=None, outputs=None)]
                    )  # refused again: not the texts are the reason
                    refused.append(trace.response)
            return refused

    def add_feedback(self, items: Iterable[Feedback]) -> int:
        """Stores feedback, in the order in which it was given; returns how many pieces have no trace: theirs were removed.

        Raises:
            RegistryError: it is not stored, or not all of it.
        """
        from mlflow.exceptions import MlflowException

        by_response: dict[str, list[Feedback]] = {}
        for item in items:
            by_response.setdefault(item.response, []).append(item)
        without_trace = 0
        with mlflow_errors(self.registry.uri):
            for response, group in by_response.items():
                try:
                    self._assess(trace_id_of(response), group)
                except MlflowException as error:
                    if error.error_code != MISSING:
                        raise
                    without_trace += len(group)
        return without_trace

    def mark_for_review(self, response: str, why: str) -> None:
        """Sets the tag of a trace that was stored before; a trace that was removed stays removed."""
        from mlflow.exceptions import MlflowException

        with mlflow_errors(self.registry.uri):
            try:
                self._client().set_trace_tag(trace_id_of(response), REVIEW_TAG, why)
            except MlflowException as error:
                if error.error_code != MISSING:
                    raise

    def remove(self, responses: Collection[str]) -> int:
        """Removes the traces of responses, with their assessments; returns the number of those that there were.

        Raises:
            RegistryError: they are not removed, or not all of them.
        """
        registry, ids = self.registry, sorted(set(map(trace_id_of, responses)))
        with mlflow_errors(registry.uri):
            return sum(
                registry.client.delete_traces(registry.experiment_id, trace_ids=ids[start : start + REMOVED_AT_ONCE])
                for start in range(0, len(ids), REMOVED_AT_ONCE)
            )

    def _log(self, traces: Sequence[ServedTrace]) -> None:
        client = self._client()
        try:
            client.log_spans(self.registry.experiment_id, [span_entity(trace) for trace in traces])
        except NotImplementedError as error:
            raise self._too_old() from error
        if not self.keeps_tags:
            if RESPONSE_TAG not in client.get_trace_info(trace_id_of(traces[0].response)).tags:
                raise self._too_old()
            self.keeps_tags = True

    def _assess(self, trace_id: str, items: Iterable[Feedback]) -> None:
        client = self._client()
        known = {
            (assessment.metadata or {}).get(FEEDBACK_ID): assessment
            for assessment in client.get_trace_info(trace_id).assessments
        }
        for item in items:
            existing = known.get(item.id)
            assessment = assessment_entity(item)
            if existing is None:
                known[item.id] = client.log_assessment(trace_id, assessment)
            elif float(existing.metadata[FEEDBACK_WHEN]) < item.when:
                client.update_assessment(trace_id, existing.assessment_id, assessment)
                existing.metadata[FEEDBACK_WHEN] = repr(item.when)

    def _client(self) -> TracingClient:
        from mlflow.tracing.client import TracingClient

        return TracingClient(self.registry.uri)

    def _too_old(self) -> RegistryError:
        fix = "Upgrade the server to MLflow 3.17, or set `serve: {deliver: {is_on: false}}`"
        return RegistryError(
            "this MLflow server does not store the tags of traces", where=self.registry.address, fix=fix
        )
