"""Traces and feedback of a server as MLflow's entities: spans and assessments."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.feedback.conventions import assessment_of
from tasks.feedback.records import Feedback
from tasks.feedback.traces import ServedTrace, storable, trace_id_of

if TYPE_CHECKING:
    from mlflow.entities import Assessment
    from mlflow.entities.span import Span


def assessment_entity(item: Feedback) -> Assessment:
    from mlflow.entities import AssessmentSource, Expectation
    from mlflow.entities import Feedback as Assessed

    values = storable(assessment_of(item))
    source = AssessmentSource(*values.pop("source"))
    when = round(item.when * 1000)
    if item.type == "demonstration":
        return Expectation(source=source, create_time_ms=when, last_update_time_ms=when, **values)
    rationale = values.pop("rationale", "")  # an empty one replaces an earlier one
    return Assessed(source=source, create_time_ms=when, last_update_time_ms=when, rationale=rationale, **values)


def span_entity(trace: ServedTrace) -> Span:
    """The only span of a trace; MLflow takes the trace's tags, times, user and conversation from it."""
    from mlflow.entities.span import Span, SpanType
    from mlflow.tracing.constant import SpanAttributeKey as Key
    from mlflow.tracing.constant import TokenUsageKey, TraceTagKey

    tokens = [trace.attributes[f"gen_ai.usage.{kind}_tokens"] for kind in ("input", "output")]
    usage = {TokenUsageKey.INPUT_TOKENS: tokens[0], TokenUsageKey.OUTPUT_TOKENS: tokens[1]}
    attributes: dict[str, Any] = {
        **trace.attributes,
        Key.REQUEST_ID: trace_id_of(trace.response),
        Key.SPAN_TYPE: SpanType.CHAT_MODEL,
        Key.INPUTS: trace.inputs,
        Key.OUTPUTS: trace.outputs,
        Key.CHAT_USAGE: {**usage, TokenUsageKey.TOTAL_TOKENS: sum(tokens)},
        Key.MODEL: trace.attributes["gen_ai.response.model"],
        Key.USER_ID: trace.user,
        Key.SESSION_ID: trace.conversation,
        **{
            f"{Key.TRACE_TAG_PREFIX}{name}": value
            for name, value in {TraceTagKey.TRACE_NAME: trace.name, **trace.tags}.items()
        },
    }
    digits = trace.response.removeprefix("resp_")
    code, message = ("STATUS_CODE_ERROR", trace.error) if trace.error else ("STATUS_CODE_OK", "")
    return Span.from_dict(
        {
            "trace_id": _base64(digits),
            "span_id": _base64(f"{int(digits[:16], 16) or 1:016x}"),  # 0 is no id
            "parent_span_id": None,
            "name": trace.name,
            "start_time_unix_nano": round(trace.start * 1e9),
            "end_time_unix_nano": round(trace.end * 1e9),
            "status": {"code": code, "message": message},
            "attributes": _as_json(attributes),
        }
    )


def _as_json(attributes: Mapping[str, Any]) -> dict[str, str]:
    """MLflow stores each value as JSON. Without an empty text: that is none."""
    filled = {name: value for name, value in attributes.items() if value is not None and value != ""}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in filled.items()}


def _base64(digits: str) -> str:
    return b64encode(bytes.fromhex(digits)).decode()
