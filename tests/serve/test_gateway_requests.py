"""What the gateway does with a request: predictions, feedback, records, and errors that name what is wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.gateway import Recording, ToyFeedback, call, make_gateway
from support.toyengine import LABELS, REWARD, ToyEngine

from tasks.serve.app.application import make_application
from tasks.serve.app.gateway import Gateway
from tasks.serve.engine.request import EngineFailed, TaskPrompt

CHAT = "/v1/chat/completions"
SAY: dict[str, Any] = {"model": "toy", "messages": [{"role": "user", "content": "你好 x"}]}
TOPIC: dict[str, Any] = {"family": "topic", "fields": {"text": "体育"}}


def send(body: Any, path: str = CHAT, gateway: Gateway | None = None, **options: Any) -> Any:
    return asyncio.run(call(make_application(gateway or make_gateway()), "POST", path, body, **options))


def test_a_prediction_has_the_value_that_evaluation_reads() -> None:
    engine = ToyEngine()
    body = {**TOPIC, "template": "en-3", "truncate": True, "max_tokens": 4, "seed": 1}
    response = send(body, "/v1/predict", make_gateway(engine))
    assert response.status == 200
    names = ("object", "version", "family", "template", "value", "answer", "is_unparsed", "is_cut", "is_shortened")
    assert [response.json[name] for name in names] == [
        *("prediction", 1, "topic", "en-0", "体育", "体育"),
        *(False, False, False),
    ]
    assert engine.requests[0].prompt == TaskPrompt("topic", {"text": "体育"}, "en-3", shortens=True)
    assert response.headers["x-strop-version"] == "1"
    unparsed = send({"family": "qa", "fields": {"text": "?"}}, "/v1/predict").json
    assert (unparsed["value"], unparsed["answer"], unparsed["is_unparsed"]) == (None, "?", True)


def test_heads_answer_with_labels_and_rewards() -> None:
    labels = send(TOPIC, "/v1/predict", make_gateway(ToyEngine(facts=LABELS))).json
    assert (labels["value"], labels["label"]) == ("sport", "sport")
    assert labels["probabilities"] == {"sport": 0.75, "art": 0.25}
    reward = send(
        {"family": "qa", "fields": {"output": "好"}}, "/v1/predict", make_gateway(ToyEngine(facts=REWARD))
    ).json
    assert (reward["value"], reward["reward"], reward["usage"]["completion_tokens"]) == (1.5, 1.5, 0)
    assert "probabilities" not in reward


WRONG: list[tuple[str, Any, tuple[int, str, str | None]]] = [
    (CHAT, b'{"model": ', (400, "malformed_json", None)),
    (CHAT, b"\xff\xfe", (400, "malformed_json", None)),
    (CHAT, b"[1]", (400, "malformed_json", None)),
    (CHAT, b'{"model": "toy", "messages": [], "tools": [{"a": -1e999}]}', (400, "malformed_json", None)),
    (CHAT, b'{"model": "toy", "tools": [' + b"9" * 400 + b".5]}", (400, "malformed_json", None)),
    (CHAT, b"[" * 5000, (400, "malformed_json", None)),
    (CHAT, {**SAY, "temprature": 1}, (400, "unknown_parameter", "temprature")),
    (CHAT, {"model": "toy"}, (400, "missing_required_parameter", "messages")),
    (CHAT, {**SAY, "temperature": "1"}, (400, "invalid_value", "temperature")),
    (CHAT, {**SAY, "temperature": True}, (400, "invalid_value", "temperature")),
    (CHAT, {**SAY, "temperature": 3}, (400, "invalid_value", "temperature")),
    (CHAT, {**SAY, "seed": 2**70}, (400, "invalid_value", "seed")),
    (CHAT, {**SAY, "stop": ["a"] * 5}, (400, "invalid_value", "stop")),
    (CHAT, {**SAY, "frequency_penalty": 0.5}, (400, "unsupported_parameter", "frequency_penalty")),
    (CHAT, {**SAY, "logit_bias": {"1": 2}}, (400, "unsupported_parameter", "logit_bias")),
    (CHAT, {**SAY, "reasoning_effort": "low"}, (400, "unsupported_parameter", "reasoning_effort")),
    (CHAT, {**SAY, "parallel_tool_calls": False}, (400, "unsupported_parameter", "parallel_tool_calls")),
    (CHAT, {**SAY, "tools": [], "tool_choice": "auto"}, (400, "invalid_value", "tools")),
    (CHAT, {**SAY, "tool_choice": "required"}, (400, "unsupported_parameter", "tool_choice")),
    (CHAT, {**SAY, "top_logprobs": 2}, (400, "invalid_value", "top_logprobs")),
    (CHAT, {**SAY, "stream_options": {}}, (400, "invalid_value", "stream_options")),
    (CHAT, {**SAY, "max_tokens": 5000}, (400, "max_tokens_too_large", "max_tokens")),
    (CHAT, {**SAY, "max_tokens": 1, "max_completion_tokens": 2}, (400, "invalid_value", "max_completion_tokens")),
    (CHAT, {**SAY, "n": 9}, (400, "too_many_choices", "n")),
    (CHAT, {**SAY, "metadata": {"a": 1}}, (400, "invalid_value", "metadata.a")),
    (CHAT, {**SAY, "messages": []}, (400, "invalid_value", "messages")),
    (CHAT, {**SAY, "response_format": {"type": "json_schema"}}, (400, "invalid_value", "response_format.json_schema")),
    ("/v1/completions", {"model": "toy", "prompt": ["a", "b"]}, (400, "invalid_value", "prompt")),
    ("/v1/completions", {"model": "toy", "prompt": "a", "suffix": "b"}, (400, "unsupported_parameter", "suffix")),
    ("/v1/completions", {"model": "toy", "prompt": "a", "echo": True}, (400, "unsupported_parameter", "echo")),
    ("/v1/predict", {**TOPIC, "stream": True}, (400, "unsupported_parameter", "stream")),
    ("/v1/predict", {"family": "topic"}, (400, "missing_required_parameter", "fields")),
    ("/v1/predict", {**TOPIC, "model": "toy@v9"}, (404, "model_not_found", "model")),
    ("/v1/embeddings", {}, (404, "unknown_url", None)),
    ("/v1/models", {}, (405, "method_not_allowed", None)),
]


@pytest.mark.parametrize(("path", "body", "expected"), WRONG)
def test_a_wrong_request_is_refused_by_the_name_of_what_is_wrong(
    path: str, body: Any, expected: tuple[int, str, str | None]
) -> None:
    assert send(body, path).error == expected


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content"),
        ({"role": "narrator", "content": "x"}, "messages[0]"),
        ({"role": "user", "content": "x", "name": "Ann"}, "messages[0].name"),
        ({"role": "assistant"}, "messages[0].content"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
    ],
)
def test_a_message_that_cannot_be_rendered_is_refused(message: dict[str, Any], param: str) -> None:
    status, _, wrong = send({**SAY, "messages": [message]}).error
    assert status == 400
    assert str(wrong).startswith(param)


def test_parameters_without_an_effect_and_nulls_are_accepted() -> None:
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "store": False, "seed": None}
    assert send({**SAY, **neutral, "parallel_tool_calls": True, "tools": None}).status == 200


def test_an_error_quotes_no_long_text() -> None:
    response = send({**SAY, "messages": [{"role": "user", "content": "秘" * 9000}], "model": ["x" * 9000]})
    assert response.error == (400, "invalid_value", "model")
    assert len(response.content) < 400


def test_a_record_has_the_request_its_answer_and_how_it_ended() -> None:
    engine = ToyEngine()
    gateway = make_gateway(engine)
    response = send({**SAY, "metadata": {"conversation": "c"}, "user": "u"}, gateway=gateway)
    engine.faults = {"x": EngineFailed("nan")}
    assert send(SAY, gateway=gateway).error == (500, "engine_error", None)
    recorder = gateway.recorder
    assert isinstance(recorder, Recording)
    first, second = recorder.requests
    assert first.request.id == response.json["id"] == recorder.answers[0].id
    assert (first.route.name, first.route.weights, first.path, first.unit.user) == ("toy@v1", "d" * 64, CHAT, "u")
    assert recorder.answers[0].answers[0].text == "你好 x"
    assert (recorder.answers[0].prompt_tokens, recorder.answers[0].error) == (2, "")
    assert (recorder.answers[1].id, recorder.answers[1].answers, recorder.answers[1].error) == (
        second.request.id,
        (),
        "engine_error",
    )


def test_feedback_goes_to_its_receiver() -> None:
    gateway = make_gateway()
    given = {"response_id": "resp_1", "name": "helpful", "value": True}
    response = send(given, "/v1/feedback", gateway, key="rater", headers={"idempotency-key": "k"})
    assert (response.status, response.json) == (200, {"id": "feedback_1"})
    assert isinstance(gateway.feedback, ToyFeedback)
    assert gateway.feedback.submitted == [(given, "rater", "k")]
    assert send({"response_id": "other"}, "/v1/feedback", gateway).error == (404, "response_not_found", "response_id")
    gateway.feedback = None
    assert send(given, "/v1/feedback", gateway).error == (404, "feedback_off", None)


def test_a_failure_of_ours_is_an_error_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    gateway = make_gateway()
    gateway.router = None  # type: ignore[assignment]
    response = send(SAY, gateway=gateway)
    assert response.error == (500, "internal_error", None)
    assert b"NoneType" not in response.content
    assert "failed" in caplog.text


def test_metrics_count_routes_versions_and_tokens_and_name_no_text_or_key() -> None:
    gateway = make_gateway()
    send(SAY, gateway=gateway)
    send({**SAY, "model": "toy@v77"}, gateway=gateway)
    text = asyncio.run(call(make_application(gateway), "GET", "/metrics")).content.decode()
    assert f'strop_requests_total{{route="{CHAT}",status="200"}} 1.0' in text
    assert 'strop_answers_total{version="1"} 1.0' in text
    assert 'strop_tokens_total{kind="answer"} 3.0' in text
    assert "strop_champion_version 1.0" in text
    assert not [word for word in ("你好", "v77", "app", "aaaa") if word in text]
