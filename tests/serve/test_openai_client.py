"""The OpenAI client talks to the gateway: whole and streamed answers, tools, schemas, log probabilities, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from support.gateway import SECRETS, RunningServer, make_gateway, served
from support.toyengine import ToyEngine

from tasks.serve.engine.request import ChatPrompt, EngineBusy, EngineFailed, EngineLost

ENGINE = ToyEngine()
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with served(make_gateway(ENGINE)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=SECRETS["app"], max_retries=0) as client:
        yield client


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_chat_is_answered_with_the_version_in_every_place(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="toy", messages=say("你好 there"), max_tokens=8)
    answer = raw.parse()
    assert answer.choices[0].message.content == "你好 there"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 3)
    assert (answer.model, answer.system_fingerprint) == ("toy@v1", "toy@v1+toy-1.0")
    assert (raw.headers["x-strop-version"], raw.headers["x-request-id"]) == ("1", answer.id)
    assert answer.id.startswith("resp_")


def test_the_parameters_reach_the_engine(client: openai.OpenAI, server: RunningServer) -> None:
    client.chat.completions.create(
        model="toy",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
            *say("x"),
        ],
        temperature=0.5,
        top_p=0.9,
        max_completion_tokens=7,
        stop=["。", "END"],
        seed=3,
        n=2,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"title": "值"}}},
        metadata={"conversation": "c-1"},
        user="u-1",
    )
    request = ENGINE.requests[-1]
    sampling = request.sampling
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.messages[0] == {"role": "system", "content": "AB"}
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.5, 0.9, 7)
    assert (sampling.stop, sampling.seed, request.choices) == (("。", "END"), 3, 2)
    assert json.loads(sampling.json_schema or "") == {"title": "值"}
    unit = server.gateway.router.units[-1]  # type: ignore[attr-defined]
    assert (unit.conversation, unit.user, unit.caller) == ("c-1", "u-1", "app")


def test_a_stream_has_the_pieces_of_the_answer_and_the_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="toy", messages=say("一 two 三"), stream=True, n=2, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    texts = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "一 two 三", 1: "一 two 三"}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [11]
    assert len(chunks) == 2 + 6 + 2 + 1
    assert {chunk.model for chunk in chunks} == {"toy@v1"}


def test_calls_are_parsed_and_streamed_whole(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="toy", messages=say("call search"), tools=[TOOL])
    call = whole.choices[0].message.tool_calls[0]
    assert (whole.choices[0].finish_reason, whole.choices[0].message.content) == ("tool_calls", None)
    assert (call.function.name, json.loads(call.function.arguments)) == ("search", {"q": "北京"})
    with client.chat.completions.create(model="toy", messages=say("call search"), tools=[TOOL], stream=True) as stream:
        deltas = [chunk.choices[0].delta for chunk in stream]
    assert [len(delta.tool_calls) for delta in deltas if delta.tool_calls] == [1]
    assert "".join(delta.content or "" for delta in deltas) == ""
    with client.chat.completions.create(model="toy", messages=say("no 调用"), tools=[TOOL], stream=True) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "no 调用"


def test_a_dialogue_with_results_of_tools_is_passed_on(client: openai.OpenAI) -> None:
    called = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    messages = [*say("天气?"), {"role": "assistant", "content": None, "tool_calls": [called]}]
    client.chat.completions.create(
        model="toy", messages=[*messages, {"role": "tool", "tool_call_id": "c1", "content": "晴"}], tools=[TOOL]
    )
    prompt = ENGINE.requests[-1].prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[1] == {"role": "assistant", "content": "", "tool_calls": [called]}
    assert prompt.messages[2] == {"role": "tool", "content": "晴", "tool_call_id": "c1"}
    assert prompt.tools == (TOOL,)


def test_log_probabilities_of_chats_and_texts(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(model="toy", messages=say("好 b"), logprobs=True, top_logprobs=2)
    token = chat.choices[0].logprobs.content[0]
    assert (token.token, token.logprob, token.bytes) == ("好", -0.5, list("好".encode()))
    assert [top.token for top in token.top_logprobs] == ["好", "?"]
    text = client.completions.create(model="toy", prompt="好 b", logprobs=1)
    logprobs = text.choices[0].logprobs
    assert (logprobs.tokens, logprobs.text_offset, logprobs.top_logprobs[0]) == (["好", " b"], [0, 1], {"好": -0.5})


def test_a_text_is_continued_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="toy@v1", prompt="one 二 three", max_tokens=2)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("one 二", "length")
    with client.completions.create(model="toy", prompt="one 二", stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == "one 二"
    client.completions.create(model="toy", prompt=["x"])
    assert ENGINE.requests[-1].sampling.max_tokens == 16


def test_models_are_listed(client: openai.OpenAI) -> None:
    first, second = client.models.list().data
    assert first.id == "toy"
    facts = first.model_extra["strop"]
    assert (facts["engine"], facts["precision"], facts["is_exact"], facts["families"]) == (
        "toy 1.0",
        "fp32",
        True,
        ["topic", "qa"],
    )
    assert second.model_extra["strop"] == {"version": 2, "is_loaded": False}
    assert client.models.retrieve("toy@v2").id == "toy@v2"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("toy@v3")


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI, server: RunningServer) -> None:
    cases = [
        (openai.BadRequestError, "prompt_too_long", "too long", None),
        (openai.RateLimitError, "engine_busy", "x", EngineBusy(7)),
        (openai.InternalServerError, "engine_lost", "x", EngineLost()),
        (openai.InternalServerError, "engine_error", "x", EngineFailed("nan")),
    ]
    for kind, code, text, early in cases:
        ENGINE.early = [early] if early else []
        with pytest.raises(kind) as caught:
            client.chat.completions.create(model="toy", messages=say(text))
        assert caught.value.code == code
        if code == "engine_busy":
            assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="other", messages=say("x"))
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    for key, kind in (("wrong", openai.AuthenticationError), (SECRETS["rater"], openai.PermissionDeniedError)):
        with pytest.raises(kind):
            client.with_options(api_key=key).models.list()


def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error(client: openai.OpenAI) -> None:
    ENGINE.faults = {"dies": EngineLost()}
    texts = []
    with (
        pytest.raises(openai.APIError, match="restarted"),
        client.chat.completions.create(model="toy", messages=say("it dies"), stream=True) as stream,
    ):
        texts += [chunk.choices[0].delta.content for chunk in stream]
    ENGINE.faults = {}
