"""What people say of served answers in MLflow, in its review queues or anywhere else in its pages, as feedback.

    feedback = reviewed("sqlite:///mlflow/mlflow.db", "support", salt=read_salt(paths.SPOOL), ratings=["rating"])

Feedback that came through the server is in the spool already: its assessments are not read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from tasks.feedback.check import DEFAULT_NAMES, MOST_BYTES
from tasks.feedback.conventions import FEEDBACK_ID
from tasks.feedback.records import Feedback, Kind
from tasks.feedback.traces import RESPONSE_TAG
from tasks.tracking.connection import all_pages
from tasks.tracking.traces import opened_experiment

PAGE = 500
COMMENT, DEMONSTRATION = DEFAULT_NAMES["comment"], DEFAULT_NAMES["demonstration"]


def reviewed(
    uri: str, experiment: str, salt: bytes, ratings: Collection[str] = ("rating",), since: float = 0.0
) -> list[Feedback]:
    """What people said of served answers, in the order in which they said it.

    Args:
        uri: of MLflow.
        experiment: the name of the model.
        salt: of the spool (`tasks.feedback.store.read_salt`): people are digests, as users of the server are.
        ratings: the names of assessments that rate an answer. Comments and demonstrations have their default names.
        since: only what was said or changed after this time, in seconds since 1970.

    Raises:
        RegistryError: the server cannot be reached, the file is missing or of another version, or it has no such experiment.
    """
    feedback: dict[str, Feedback] = {}
    with opened_experiment(uri, experiment) as (client, experiment_id):
        for condition in _conditions(ratings):
            search = partial(
                client.search_traces,
                locations=[experiment_id],
                filter_string=condition,
                order_by=["timestamp_ms ASC"],
                include_spans=False,
                max_results=PAGE,
            )
            for trace in all_pages(search):
                feedback |= {
                    item.id: item for item in _feedback_on(trace.info, set(ratings), salt) if item.when > since
                }
    return sorted(feedback.values(), key=lambda item: (item.when, item.id))


def _conditions(ratings: Collection[str]) -> list[str]:
    """MLflow's searches have no `or`."""
    names = sorted({*ratings, COMMENT, DEMONSTRATION})
    conditions = [f"feedback.`{name}` IS NOT NULL" for name in names if "`" not in name]
    return [*conditions, f"expectation.`{DEMONSTRATION}` IS NOT NULL"]


def _feedback_on(info: Any, ratings: set[str], salt: bytes) -> Iterator[Feedback]:
    response = info.tags.get(RESPONSE_TAG)
    for assessment in info.assessments if response else ():
        is_ours = FEEDBACK_ID in (assessment.metadata or {})
        if is_ours or assessment.valid is False or "HUMAN" not in str(assessment.source.source_type):
            continue
        if read := _read(assessment, ratings):
            kind, value = read
            yield Feedback(
                id=f"fb_{_digest(salt, ['assessment', info.trace_id, assessment.assessment_id])}",
                response=response,
                when=(assessment.last_update_time_ms or 0) / 1000,
                type=kind,
                name=assessment.name,
                value=value,
                explanation=_short(assessment.rationale or ""),
                user=_digest(salt, ["user", assessment.source.source_id or ""]),
            )


def _read(assessment: Any, ratings: set[str]) -> tuple[Kind, bool | float | str] | None:
    """Kind and value; None for what is no feedback: an empty text, a number that is no rating, a text that is too long."""
    value = (
        assessment.expectation.value if assessment.expectation else assessment.feedback and assessment.feedback.value
    )
    if assessment.name in ratings and isinstance(value, bool):
        return "boolean", value
    if assessment.name in ratings and isinstance(value, (int, float)):
        return ("float", float(value)) if 0 <= value <= 1 else None
    if assessment.name not in (COMMENT, DEMONSTRATION) or value is None:
        return None
    kind: Kind = "comment" if assessment.name == COMMENT else "demonstration"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (kind, text) if text.strip() and len(text.encode()) <= MOST_BYTES[kind] else None


def _short(text: str) -> str:
    return text.encode()[: MOST_BYTES["comment"]].decode(errors="ignore")


def _digest(salt: bytes, value: Any) -> str:
    """As FeedbackStore's."""
    return hashlib.blake2b(json.dumps(value).encode(), key=salt, digest_size=16).hexdigest()
