"""Requests are repeated while the endpoint may answer later, and no answer is lost."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import Any

import pytest
from support.toyendpoint import Reply

from tasks.build.endpoint import Endpoint
from tasks.build.generator import CutOff
from tasks.build.settings import Generator
from tasks.errors import ConfigError, SourceError

pytest_plugins = ["support.toyendpoint"]


def endpoint(base_url: str, **settings: Any) -> Endpoint:
    defaults = {"model": "toy", "base_url": base_url, "timeout_seconds": 5.0, "attempts": 3}
    return Endpoint(Generator(**{**defaults, **settings}), first_pause_seconds=0.01)


def test_answers_are_in_the_order_of_the_prompts_though_requests_are_parallel(start_endpoint: Any) -> None:
    second = threading.Event()

    def answer(prompt: str) -> Reply | str:
        if prompt == "prompt 0":
            return Reply(body=json.dumps({"choices": [{"text": "PROMPT 0"}]}), after=second)
        if prompt == "prompt 1":
            second.set()
        return prompt.upper()

    toy = start_endpoint(answer)
    prompts = [f"prompt {number}" for number in range(20)]
    kept: dict[int, str] = {}
    assert endpoint(toy.base_url).complete(prompts, kept.__setitem__) == [prompt.upper() for prompt in prompts]
    assert kept == {index: prompt.upper() for index, prompt in enumerate(prompts)}
    assert toy.requests[0]["path"] == "/v1/chat/completions"
    assert toy.requests[0]["body"]["model"] == "toy"


def test_a_model_that_continues_a_text_is_used_through_completions(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: f"{prompt}…")
    assert endpoint(toy.base_url, api="completions").complete(["从前"]) == ["从前…"]
    assert toy.requests[0]["path"] == "/v1/completions"


def test_case_21_a_model_on_this_machine_is_used_without_the_proxies(
    start_endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "socks://127.0.0.1:9")
    assert endpoint(start_endpoint(str.upper).base_url).complete(["who?"]) == ["WHO?"]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_an_answer_that_was_cut_off_is_marked(start_endpoint: Any, api: str) -> None:
    def reply(prompt: str) -> Reply:
        finish = {"whole": "stop", "cut": "length", "filtered": "content_filter"}[prompt]
        choice = {"finish_reason": finish, "text": "so", "message": {"content": "so"}}
        return Reply(
            body=json.dumps({"choices": [{k: v for k, v in choice.items() if api == "chat" or k != "message"}]})
        )

    toy = start_endpoint(reply)
    answers = endpoint(toy.base_url, api=api).complete(["whole", "cut", "filtered"])
    assert answers == ["so", "so", "so"]
    assert [isinstance(answer, CutOff) for answer in answers] == [False, True, True]


def test_a_request_is_repeated_after_the_pause_that_a_busy_server_names(start_endpoint: Any) -> None:
    script = [Reply(500, "oops"), Reply(429, '{"error": {"message": "slow down"}}', {"Retry-After": "0.4"})]
    toy = start_endpoint(lambda prompt: script.pop(0) if script else "good")
    began = time.monotonic()
    assert endpoint(toy.base_url).complete(["x"]) == ["good"]
    assert len(toy.prompts) == 3
    assert time.monotonic() - began >= 0.4


def test_a_pause_until_a_date_is_understood(start_endpoint: Any) -> None:
    script = [Reply(503, "", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), Reply(503, "", {"Retry-After": "soon"})]
    toy = start_endpoint(lambda prompt: script.pop(0) if script else "good")
    assert endpoint(toy.base_url).complete(["x"]) == ["good"]


@pytest.mark.parametrize("body", ["<html>", "{}", '{"choices": []}', '{"choices": [{"message": 1}]}', "[1]"])
def test_a_response_that_is_not_a_completion_is_requested_again_and_then_reported(
    start_endpoint: Any, body: str
) -> None:
    toy = start_endpoint(lambda prompt: Reply(200, body))
    with pytest.raises(SourceError, match=r"not a completion.* 3 times"):
        endpoint(toy.base_url).complete(["x"])
    assert len(toy.prompts) == 3


def test_a_refusal_is_reported_at_once_with_the_server_s_message(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: Reply(404, '{"error": {"message": "no model toy"}}'))
    with pytest.raises(SourceError, match=r"404 \(no model toy\).*Correct base_url or model"):
        endpoint(toy.base_url).complete(["x"])
    assert len(toy.prompts) == 1


def test_answers_from_before_a_failure_are_stored(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: Reply(500, "oops") if prompt == "bad" else "good")
    kept: dict[int, str] = {}
    with pytest.raises(SourceError, match=r"500 \(oops\), 3 times.*stored"):
        endpoint(toy.base_url, parallel_requests=1).complete(["a", "b", "bad", "never"], kept.__setitem__)
    assert kept == {0: "good", 1: "good"}
    assert Counter(toy.prompts) == {"a": 1, "b": 1, "bad": 3}


def test_a_server_that_does_not_answer_in_time_or_at_all_is_reported(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: Reply(200, "late", after_seconds=1.0))
    with pytest.raises(SourceError, match=r"no complete answer within 0\.1 s \(timeout_seconds\), 2 times"):
        endpoint(toy.base_url, timeout_seconds=0.1, attempts=2).complete(["x"])
    toy.close()
    with pytest.raises(SourceError, match="cannot be reached"):
        endpoint(toy.base_url, attempts=2).complete(["x"])


def test_of_several_errors_at_once_the_first_is_reported(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: Reply(401, "who are you?") if prompt == "b" else Reply(500, "oops"))
    with pytest.raises(SourceError, match=r"401 \(who are you\?\).*api_key_env"):
        Endpoint(Generator(model="toy", base_url=toy.base_url, attempts=9)).complete(["a", "b", "c"])


def test_an_invalid_address_is_reported() -> None:
    with pytest.raises(SourceError, match=r"is not a valid address.*Correct base_url"):
        endpoint("http://127.0.0.1:eighty").complete(["x"])


def test_the_key_comes_from_the_environment_alone(start_endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = start_endpoint(lambda prompt: "good")
    model = endpoint(toy.base_url, api_key_env="TOY_KEY")
    monkeypatch.delenv("TOY_KEY", raising=False)
    with pytest.raises(ConfigError, match="TOY_KEY: is not set"):
        model.complete(["x"])
    monkeypatch.setenv("TOY_KEY", "a-key\nof two lines")
    with pytest.raises(ConfigError, match="TOY_KEY: is not a key") as caught:
        model.complete(["x"])
    assert "a-key" not in str(caught.value)
    monkeypatch.setenv("TOY_KEY", "a-key")
    assert model.complete(["x"]) == ["good"]
    assert toy.requests[0]["headers"]["Authorization"] == "Bearer a-key"
