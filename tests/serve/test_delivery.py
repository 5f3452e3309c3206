"""Records of a server become traces in MLflow, once, with feedback and reviews, whatever ends the delivery or erases records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import AssessmentSource, Expectation
from mlflow.entities import Feedback as Assessed
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.tracing.client import TracingClient
from support.ingesting import ingest, records
from support.mlflowserver import give_empty_registry, server
from support.project import params, set_up_project, write_params
from support.toyserving import APP, SERVED, SPOOL, response, response_id, store

from tasks.config import load_config
from tasks.erase.traces import remove_traces
from tasks.errors import ConfigError, RegistryError
from tasks.feedback.erase import erase_responses
from tasks.feedback.records import Answer
from tasks.feedback.settings import RecordSettings
from tasks.feedback.spool import delivery_lock
from tasks.feedback.traces import trace_id_of
from tasks.serve.deliver import client, delivery
from tasks.serve.deliver.delivery import Delivery, has_new_records
from tasks.serve.deliver.positions import read_positions, write_positions
from tasks.serve.deliver.process import WAIT_SECONDS, Deliverer, deliverer_of
from tasks.serve.deliver.settings import ReviewSettings
from tasks.serve.deliver.worth_review import DIFFERS
from tasks.serve.settings import ServeSettings
from tasks.tracking import sqlite_paths
from tasks.tracking.reviews import reviewed
from tasks.tracking.served_traces import ServedTraces, open_traces

CHAT = {"messages": [{"role": "user", "content": "法国的首都是哪里？"}], "tools": []}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    set_up_project(root, has_code=False)
    write_params(root, params("base", []))
    monkeypatch.chdir(root)
    give_empty_registry(root)
    return root


def opened() -> ServedTraces:
    traces = open_traces(load_config())
    assert traces is not None
    return traces


def deliver(traces: ServedTraces, **review: Any) -> None:
    delivery = Delivery(SPOOL, traces, ReviewSettings(**review))
    while delivery.step():
        pass


def stored(traces: ServedTraces) -> dict[str, Any]:
    """Response → its trace."""
    known = traces.registry.client.search_traces(locations=[traces.registry.experiment_id], max_results=500)
    return {trace.info.tags["strop.response"]: trace for trace in known}


def assessments(traces: ServedTraces, number: int) -> dict[str, Any]:
    info = traces._client().get_trace_info(trace_id_of(response_id(number)))
    return {assessment.name: assessment for assessment in info.assessments}


def queued(traces: ServedTraces) -> set[str]:
    client, experiment = traces._client(), traces.registry.experiment_id
    queues = client._list_review_queues(experiment)
    items = [item for queue in queues for item in client._list_review_queue_items(queue.queue_id)]
    return {item.item_id for item in items}


def test_responses_become_traces_once_and_changed_feedback_changes_an_assessment(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, traces = store(), opened()
    requests: list[str] = []  # MLflow looks up the prices of models: never over the network
    monkeypatch.setattr("requests.Session.send", lambda self, request, **_: requests.append(request.url))
    spool.add_response(response(1, text="里昂", unit="c1", arm="canary", seconds=0.5))
    spool.add_response(
        response(2, prompt=CHAT, answers=(Answer("巴黎\ud800\x00", "length", 4),), path="/v1/chat/completions")
    )
    spool.add_response(response(3, is_shadow=True, shadow_of=response_id(1), error="engine_lost"))
    for value in (True, False):
        spool.add_feedback({"response_id": response_id(1), "value": value, "explanation": "错" if value else ""}, APP)
        deliver(traces)
        assert assessments(traces, 1)["rating"].value is value
    spool.add_feedback({"response_id": response_id(1), "type": "demonstration", "value": "巴黎"}, APP)
    judge = {"response_id": response_id(1), "value": 0.25, "source": "llm", "name": "fluent"}
    spool.add_feedback(judge, APP)
    deliver(traces)
    first = stored(traces)
    (SPOOL / "delivered.json").unlink()  # as by a kill before the position was written
    deliver(traces)
    again = stored(traces)
    assert {name: trace.to_dict() for name, trace in again.items()} == {name: t.to_dict() for name, t in first.items()}
    assert not requests
    task, chat, shadow = (again[response_id(number)] for number in (1, 2, 3))
    tags = {
        "strop.version": "3",
        "strop.family": "qa",
        "strop.template": "qa_en_1",
        "strop.arm": "canary",
        "strop.key": "app",
    }
    assert tags.items() <= task.info.tags.items()
    assert "user 1" not in str(task.to_dict())
    assert (task.info.trace_metadata["mlflow.trace.session"], task.info.execution_duration) == (
        task.info.tags["strop.conversation"],
        500,
    )
    assert json.loads(task.data.response) == {"answer": "里昂", "value": "里昂", "finish_reason": "stop"}
    assert (chat.info.request_preview, chat.info.response_preview) == ("法国的首都是哪里？", "巴黎��")
    assert chat.data.spans[0].get_attribute("gen_ai.response.finish_reasons") == ["length"]
    assert (shadow.info.state, shadow.info.tags["strop.shadow_of"]) == ("ERROR", trace_id_of(response_id(1)))
    known = assessments(traces, 1)
    assert {name: (each.source.source_type, each.value) for name, each in known.items() if each.feedback} == {
        "rating": ("HUMAN", False),
        "fluent": ("LLM_JUDGE", 0.25),
    }
    assert (known["demonstration"].expectation.value, known["rating"].rationale or "") == ("巴黎", "")


class Killed(BaseException):
    """As SIGKILL: nothing handles it."""


@pytest.mark.parametrize(("method", "call"), [("log_spans", 1), ("log_assessment", 1), ("log_assessment", 3)])
def test_a_killed_delivery_loses_nothing_and_repeats_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    spool, traces = store(), opened()
    for number in range(1, 5):
        spool.add_response(response(number))
        spool.add_feedback({"response_id": response_id(number), "value": True}, APP)
    work, calls = getattr(TracingClient, method), []

    def dying(*values: Any) -> Any:
        result = work(*values)
        calls.append(values)
        if len(calls) == call:
            raise Killed  # it is in MLflow, and nobody knows
        return result

    with monkeypatch.context() as patch:
        patch.setattr(TracingClient, method, dying)
        with pytest.raises(Killed):
            deliver(traces)
    deliver(traces)
    assert [len(trace.info.assessments) for trace in stored(traces).values()] == [1] * 4
    assert not has_new_records(SPOOL)


def test_the_process_starts_again_after_a_kill_and_ends_with_the_gateway(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RESTART_SECONDS", (0.01,))

    async def scenario() -> None:
        deliverer = client.DelivererClient(load_config().serve)
        await deliverer.open()
        async with asyncio.timeout(60):
            while deliverer.process is None:
                await asyncio.sleep(0.01)
            first = deliverer.process
            os.kill(first.pid, signal.SIGKILL)
            while deliverer.process is first:
                await asyncio.sleep(0.01)
            await deliverer.close()
        assert (deliverer.restarts, deliverer.process.returncode) == (1, 0)

    asyncio.run(scenario())


def test_records_wait_while_mlflow_is_locked_and_one_line_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tasks.serve")
    monkeypatch.setattr(sqlite_paths, "LOCK_WAIT_SECONDS", 0.0)
    traces = opened()
    store().add_response(response(1))
    deliverer = deliverer_of(load_config(), threading.Event())
    with contextlib.closing(sqlite3.connect("mlflow/mlflow.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        assert [deliverer.step() for _ in range(3)] == list(WAIT_SECONDS[:3])
        database.execute("ROLLBACK")
    assert deliverer.step() == deliverer.seconds
    assert list(stored(traces)) == [response_id(1)]
    assert [record.message.partition(":")[2].partition(",")[0] for record in caplog.records] == [
        " records wait",
        " records are delivered to MLflow again",
    ]


def test_nothing_is_created_without_a_registry_and_without_records_mlflow_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    attempts = []
    deliverer = Deliverer(lambda: attempts.append(1), lambda: has_new_records(SPOOL), 5.0, threading.Event())
    assert deliverer.step() == 5.0
    assert not attempts
    store().add_response(response(1))
    assert [deliverer.step(), deliverer.step()] == [60.0, 60.0]
    assert attempts == [1, 1]


def test_two_gateways_deliver_once_and_feedback_follows_a_response_of_the_other(project: Path) -> None:
    one, other, traces = store(), store(), opened()
    one.add_response(response(1))
    other.add_feedback({"response_id": response_id(1), "value": True}, APP)
    first, second = (Delivery(SPOOL, traces, ReviewSettings()) for _ in range(2))
    with delivery_lock(SPOOL):  # another process delivers
        assert not first.step()
        assert not stored(traces)
    second.step()
    first.step()
    assert [len(trace.info.assessments) for trace in stored(traces).values()] == [1]


def test_a_long_backlog_is_delivered_in_portions_and_ended_segments_are_read_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MOST_RECORDS", 2)
    spool, traces = store(RecordSettings(segment_bytes=4096)), opened()
    for number in range(1, 12):
        spool.add_response(response(number, text="x" * 500))
        spool.add_feedback({"response_id": response_id(number), "value": True}, APP)
    deliver(traces)
    assert [len(trace.info.assessments) for trace in stored(traces).values()] == [1] * 11
    *ended, last = read_positions(SPOOL).segments.values()
    assert ended
    assert all(position.is_complete for position in ended)
    assert not last.is_complete
    spool.add_response(response(12))
    deliver(traces)
    assert len(stored(traces)) == 12


def test_a_trace_whose_text_mlflow_refuses_has_no_text_and_holds_up_no_other(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool, traces = store(), opened()
    for number, text in enumerate(["Lyon", "poison", "巴黎"]):
        spool.add_response(response(number, text=text))
    log_spans = TracingClient.log_spans

    def refusing(self: Any, location: str, spans: list[Any]) -> Any:
        if is_down or any("poison" in str(span.outputs) for span in spans):
            raise MlflowException("refused", error_code=BAD_REQUEST)
        return log_spans(self, location, spans)

    monkeypatch.setattr(TracingClient, "log_spans", refusing)
    is_down = True
    with pytest.raises(RegistryError, match="refused"):  # not the texts are the reason: nothing is skipped
        deliver(traces)
    is_down = False
    deliver(traces)
    responses = {name: trace.data.response for name, trace in stored(traces).items()}
    assert {name for name, text in responses.items() if text is None} == {response_id(1)}
    assert len(responses) == 3
    assert "refused the texts of 1 response," in caplog.text


def test_another_registry_gets_all_records(project: Path) -> None:
    spool, traces = store(), opened()
    spool.add_response(response(1))
    deliver(traces)
    traces.remove([response_id(1)])
    deliver(traces)
    assert not stored(traces)  # what people delete in MLflow stays deleted
    positions = read_positions(SPOOL)
    positions.destination = "another"
    write_positions(SPOOL, positions)
    deliver(traces)
    assert list(stored(traces)) == [response_id(1)]


def test_erased_responses_leave_mlflow_and_do_not_come_back(project: Path) -> None:
    spool, traces = store(), opened()
    for number in (1, 2, 3):
        spool.add_response(response(number))
    deliver(traces, slice="version == 3")
    spool.add_feedback({"response_id": response_id(1), "value": True}, APP)
    spool.writer.close()
    erase_responses(SPOOL, [response_id(1), response_id(2)])
    assert remove_traces([response_id(1), response_id(2)], "again") == 2
    assert remove_traces([response_id(1)], "again") == 0  # it may be repeated
    deliver(traces)
    (SPOOL / "delivered.json").unlink()
    deliver(traces)
    assert list(stored(traces)) == [response_id(3)]
    assert queued(traces) == {trace_id_of(response_id(3))}


def test_answers_worth_a_look_are_queued_up_to_the_limit_of_the_day(project: Path) -> None:
    spool, traces = store(), opened()
    served = [
        response(1, text="I cannot say. " * 60),  # a loop
        response(2, answers=(Answer("Lyon or so"),)),  # evaluation could not read it
        response(3),
        response(4, text="里昂"),
        response(5, text="Paris", is_shadow=True, shadow_of=response_id(4)),
        response(6, text="Lyon", is_shadow=True, shadow_of=response_id(3)),
        response(7, prompt=CHAT, answers=(Answer("巴黎"),)),
        response(8, prompt=CHAT, answers=(Answer("巴黎"),)),
        response(9, prompt={}, answers=(Answer(""),), omitted="pii_email"),
    ]
    for each in served:
        spool.add_response(each)
    deliver(traces, slice="contains(prompt, '法国') and length(answer) < 5", per_day=5)
    reviews = {trace_id_of(name): trace.info.tags.get("strop.review") for name, trace in stored(traces).items()}
    expected = {1: "loop", 2: "unparsed", 4: DIFFERS, 5: DIFFERS, 7: "slice"}
    assert {name: why for name, why in reviews.items() if why} == {
        trace_id_of(response_id(number)): why for number, why in expected.items()
    }
    assert queued(traces) == {trace_id_of(response_id(number)) for number in expected}


def test_what_people_say_in_mlflow_becomes_rows_as_other_feedback(project: Path) -> None:
    spool, traces = store(), opened()
    for number in range(1, 5):
        spool.add_response(response(number))
    spool.add_feedback({"response_id": response_id(4), "value": True}, APP)
    deliver(traces)
    say(traces, 1, Expectation("demonstration", value="里昂"))
    say(traces, 2, Assessed("rating", value=False, rationale="wrong city"))
    say(traces, 3, Assessed("rating", value=True), kind="CODE")
    source = {**SERVED, "tracking_uri": "sqlite:///mlflow/mlflow.db", "experiment": traces.registry.model}
    assert not ingest(source).errors
    rows = [(record["output"], record.get("rejected"), record.get("desirable")) for record in records("app")]
    assert sorted(rows) == [("Lyon", None, "false"), ("Lyon", None, "true"), ("里昂", "Lyon", None)]
    assert not ingest(source).new
    say(traces, 3, Assessed("rating", value=True))
    assert ingest(source).sources[0].new_rows == 1
    (comment,) = [each["strop_served"]["comments"] for each in records("app") if each.get("desirable") == "false"]
    assert comment == ["wrong city"]
    assert "ann@example" not in str(records("app"))
    assert [item.when for item in reviewed(source["tracking_uri"], source["experiment"], b"salt", since=4e9)] == []


def test_a_slice_that_is_no_condition_is_an_error_at_the_start() -> None:
    settings = ServeSettings(review=ReviewSettings(slice="lenght(answer) > 3"))
    with pytest.raises(ConfigError, match="is no condition on an answer"):
        asyncio.run(client.DelivererClient(settings).open())


@pytest.mark.slow
def test_a_server_on_postgresql_stores_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server(has_login=False, on_postgres=True).url)
    spool, traces = store(), opened()
    spool.add_response(response(1, text="里昂\x00\ud800", unit="c1"))
    spool.add_feedback({"response_id": response_id(1), "value": True, "explanation": "好\x00"}, APP)
    deliver(traces, slice="answer != ''")
    (SPOOL / "delivered.json").unlink()
    deliver(traces)
    (trace,) = stored(traces).values()
    assert trace.info.tags["strop.review"] == "slice"
    assert json.loads(trace.data.response)["answer"] == "里昂��"
    assert [(each.value, each.rationale) for each in trace.info.assessments] == [(True, "好�")]
    assert queued(traces) == {trace.info.trace_id}
    say(traces, 1, Assessed("rating", value=False))
    (review,) = reviewed(traces.registry.uri, traces.registry.model, b"salt")
    assert (review.response, review.type, review.value) == (response_id(1), "boolean", False)
    assert traces.remove([response_id(1)]) == 1
    assert not stored(traces)


def say(traces: ServedTraces, number: int, assessment: Any, kind: str = "HUMAN") -> None:
    assessment.source = AssessmentSource(kind, "ann@example.org")
    traces._client().log_assessment(trace_id_of(response_id(number)), assessment)
