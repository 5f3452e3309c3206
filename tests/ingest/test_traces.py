"""MLflow traces that people judged become dialogues: the good answers, and those that a person wrote better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ingesting import errors, held, ingest, records, settings

from tasks.ingest.sources import anything_new
from tasks.shapes import to_fields

URI = "sqlite:///traces.db"
CHAT = {
    "name": "chat", "kind": "traces", "tracking_uri": URI, "experiment": "chat", "shape": "messages", "family": "dialogue",
    "rating": "user_rating", "answer": "better",
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/traces.db")
    mlflow.set_experiment("chat")


def asked(request: Any, response: Any) -> str:
    """A trace of one exchange; returns its id."""
    import mlflow

    @mlflow.trace
    def answer(messages: Any) -> Any:
        return response

    answer(request)
    found = mlflow.get_last_active_trace_id()
    assert found is not None
    mlflow.flush_trace_async_logging()
    return str(found)


def judge(trace: str, name: str, value: Any, who: str = "HUMAN") -> None:
    from mlflow.entities import AssessmentSource

    import mlflow

    mlflow.log_feedback(trace_id=trace, name=name, value=value, source=AssessmentSource(source_type=who, source_id="x"))


def test_good_and_edited_answers_are_taken_once_and_others_left() -> None:
    import mlflow

    good = asked([{"role": "user", "content": "你好"}], {"role": "assistant", "content": "您好！"})
    bad = asked("What is 2+2?", "5")
    asked("Nobody judged this", "x")
    robot = asked("A model judged this", "x")
    judge(good, "user_rating", True)
    judge(bad, "user_rating", False)
    judge(robot, "user_rating", True, who="LLM_JUDGE")
    result = ingest(CHAT)
    assert not result.errors
    assert [each["trace_id"] for each in records("chat")] == [good]
    row = to_fields(records("chat")[0], "messages", {})
    assert isinstance(row, dict)
    assert (row["input"], row["output"]) == ("你好", "您好！")
    assert not anything_new(settings(CHAT))
    assert not ingest(CHAT).new

    mlflow.log_expectation(trace_id=bad, name="better", value="4")  # an older trace, judged later
    assert anything_new(settings(CHAT))
    assert ingest(CHAT).sources[0].new_rows == 1
    turns = [{"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "4"}]
    assert records("chat")[1] == {"trace_id": bad, "messages": turns}
    judge(good, "user_rating", False)  # what was collected is kept
    ingest(CHAT)
    assert len(held("chat")) == 2
    assert errors("chat") == []


def test_a_rating_may_be_a_number_with_a_bound() -> None:
    for stars in (2, 4, 5):
        judge(asked(f"question {stars}", f"answer {stars}"), "stars", stars)
    numbers = {key: value for key, value in CHAT.items() if key != "answer"} | {"rating": "stars", "rating_min": 4}
    ingest(numbers)
    assert [each["messages"][-1]["content"] for each in records("chat")] == ["answer 4", "answer 5"]


def test_a_trace_of_no_known_form_is_kept_and_refused_later() -> None:
    judge(asked("plain", "good"), "user_rating", True)
    judge(asked({"a": 1, "b": 2}, {"choices": [{"message": {"content": "c"}}]}), "user_rating", True)
    ingest(CHAT)
    first, second = records("chat")
    assert first["messages"][-1]["content"] == "good"
    assert second["request"] == {"messages": {"a": 1, "b": 2}}
    assert to_fields(second, "messages", {}).code == "missing_field"  # type: ignore[union-attr]


def test_an_experiment_or_server_that_is_not_there_is_told() -> None:
    (error,) = ingest(CHAT | {"experiment": "nothing"}).errors
    assert "has no experiment nothing" in str(error)
    (error,) = ingest(CHAT | {"tracking_uri": "http://127.0.0.1:9"}).errors
    assert "source `chat`, http://127.0.0.1:9: the registry cannot be reached" in str(error)
