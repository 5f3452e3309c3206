"""MLflow traces that people judged."""

from __future__ import annotations

from typing import Any

URI = "sqlite:///traces.db"
CHAT = {
    "name": "chat", "kind": "traces", "tracking_uri": URI, "experiment": "chat", "shape": "messages", "family": "dialogue",
    "rating": "user_rating", "answer": "better",
}  # fmt: skip


def log_chat(request: Any, response: Any) -> str:
    """A trace of one exchange; returns its id."""
    import mlflow

    @mlflow.trace
    def answer(messages: Any) -> Any:
        return response

    answer(request)
    result = mlflow.get_last_active_trace_id()
    assert result is not None
    mlflow.flush_trace_async_logging()
    return str(result)


def judge(trace: str, name: str, value: Any, who: str = "HUMAN") -> None:
    from mlflow.entities import AssessmentSource

    import mlflow

    mlflow.log_feedback(trace_id=trace, name=name, value=value, source=AssessmentSource(source_type=who, source_id="x"))
