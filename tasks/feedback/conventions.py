"""Feedback under the names of OpenTelemetry's GenAI conventions and of MLflow's assessments. Pure."""

from __future__ import annotations

from typing import Any

from tasks.feedback.records import Feedback

RESPONSE_ID = "gen_ai.response.id"
EVALUATION_NAME = "gen_ai.evaluation.name"
SCORE_VALUE = "gen_ai.evaluation.score.value"
SCORE_LABEL = "gen_ai.evaluation.score.label"
EXPLANATION = "gen_ai.evaluation.explanation"

SOURCE_TYPES = {"human": "HUMAN", "llm": "LLM_JUDGE", "code": "CODE"}
"""MLflow's types of the source of an assessment."""
FEEDBACK_ID = "strop.feedback_id"
"""Metadata of an assessment: MLflow has no id by which feedback could be stored once."""
FEEDBACK_WHEN = "strop.feedback_when"
"""Metadata of an assessment: when the feedback was given, in seconds since 1970. Later feedback with the same id replaces it."""
FEEDBACK_CHOICE = "strop.choice"
"""Metadata of an assessment: the index of the answer, if it is not the first."""


def event_attributes(feedback: Feedback) -> dict[str, Any]:
    """The attributes of an event `gen_ai.evaluation.result`."""
    attributes: dict[str, Any] = {RESPONSE_ID: feedback.response, EVALUATION_NAME: feedback.name}
    if isinstance(feedback.value, str):
        return attributes | {EXPLANATION: feedback.value}
    attributes |= {SCORE_VALUE: float(feedback.value)}
    if isinstance(feedback.value, bool):
        attributes |= {SCORE_LABEL: "pass" if feedback.value else "fail"}
    return attributes | ({EXPLANATION: feedback.explanation} if feedback.explanation else {})


def assessment_of(feedback: Feedback) -> dict[str, Any]:
    """The arguments of MLflow's `log_feedback`, or of `log_expectation` for a demonstration; `source` as its type and id."""
    assessment: dict[str, Any] = {
        "name": feedback.name,
        "value": feedback.value,
        "source": (SOURCE_TYPES[feedback.source], feedback.user),
        "metadata": {FEEDBACK_ID: feedback.id, FEEDBACK_WHEN: repr(feedback.when)}
        | ({FEEDBACK_CHOICE: str(feedback.choice)} if feedback.choice else {}),
    }
    if feedback.type != "demonstration" and feedback.explanation:
        assessment["rationale"] = feedback.explanation
    return assessment
