"""The review queue of a model: an MLflow list of traces that people should look at, with the questions that they answer.

    queue = open_queue(registry, reviewers=["ann"])     # None: the server has no review queues
    add_to_queue(registry, queue, ["resp_…"])

The functions are experimental in MLflow, since 3.14. Their answers are read by tasks/tracking/reviews.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.feedback.check import DEFAULT_NAMES
from tasks.feedback.traces import trace_id_of
from tasks.tracking.connection import mlflow_errors
from tasks.tracking.registry import Registry

if TYPE_CHECKING:
    from mlflow.tracing.client import TracingClient

QUEUE = "answers worth a look"
RATING, DEMONSTRATION = DEFAULT_NAMES["boolean"], DEFAULT_NAMES["demonstration"]
MISSING, EXISTS = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
UNKNOWN_PATHS = ("ENDPOINT_NOT_FOUND", "NOT_FOUND", "NOT_IMPLEMENTED")
"""Codes of a server that has no review queues."""


def open_queue(registry: Registry, reviewers: Sequence[str] = ()) -> str | None:
    """The id of the queue, which is created if it is missing; None if the server has no review queues.

    Args:
        reviewers: the users to whom a new queue is assigned; without any, to nobody in particular.

    Raises:
        RegistryError: the registry cannot be reached, or refuses.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.client import TracingClient

    client, experiment = TracingClient(registry.uri), registry.experiment_id

    def create() -> Any:
        questions = _questions(client, experiment)
        return client._create_review_queue(
            experiment, name=QUEUE, queue_type="custom", users=list(reviewers), schema_ids=questions
        )

    with mlflow_errors(registry.uri):
        try:
            queue = _get_or_create(lambda: client._get_review_queue_by_name(experiment, QUEUE), create)
        except NotImplementedError:
            return None
        except MlflowException as error:
            if error.error_code in UNKNOWN_PATHS:
                return None
            raise
    return str(queue.queue_id)


def add_to_queue(registry: Registry, queue: str, responses: Collection[str]) -> None:
    """Adds the traces of responses; those that are in the queue keep their state.

    Raises:
        RegistryError: they are not added.
    """
    from mlflow.tracing.client import TracingClient

    if responses:
        with mlflow_errors(registry.uri):
            ids = [trace_id_of(response) for response in responses]
            TracingClient(registry.uri)._add_items_to_review_queue(queue, item_ids=ids)


def _questions(client: TracingClient, experiment: str) -> list[str]:
    """The ids of the questions: is the answer good, and what is the right one. Existing ones of these names are used."""
    from mlflow.genai.label_schemas import InputPassFail, InputText

    questions: dict[str, dict[str, Any]] = {
        RATING: {
            "type": "feedback",
            "input": InputPassFail("Good", "Bad"),
            "instruction": "Is the answer good?",
            "enable_comment": True,
        },
        DEMONSTRATION: {
            "type": "expectation",
            "input": InputText(),
            "instruction": "The right answer, in the form in which the model should give it; leave it empty for a good answer.",
            "enable_comment": False,
        },
    }
    schemas = [
        _get_or_create(
            partial(client._get_label_schema_by_name, experiment, name),
            partial(client._create_label_schema, experiment_id=experiment, name=name, **question),
        )
        for name, question in questions.items()
    ]
    return [str(schema.schema_id) for schema in schemas]


def _get_or_create(get: Callable[[], Any], create: Callable[[], Any]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return get()
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
    try:
        return create()
    except MlflowException as error:
        if error.error_code != EXISTS:  # another process created it
            raise
        return get()
