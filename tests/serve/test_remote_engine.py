"""An engine behind vLLM's API: what it is sent, what its answers become, and each way in which a server may fail."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY
from support.toychat import CALLING, chat_tokenizer
from support.toyvllm import BASE, ToyVllm, error

from tasks.errors import ConfigError, SourceError
from tasks.prompts.chat_prompts import Prompts
from tasks.prompts.family_prompts import FamilyPrompts
from tasks.prompts.templates.templates import read_templates
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.remote import RemoteEngine
from tasks.serve.engine.remote_server import RemoteServer
from tasks.serve.engine.remote_version import Decoding
from tasks.serve.engine.request import (
    ChatPrompt,
    Delta,
    EngineBusy,
    EngineFacts,
    EngineFailed,
    EngineLost,
    Event,
    Finished,
    Request,
    RequestRejected,
    Sampling,
    Started,
    TaskPrompt,
    TextPrompt,
)

NAME = "toy@v7+0123456789abcdef"
PATH = "/models/seven"
HELLO = ChatPrompt(({"role": "user", "content": "Hello 你好"},))
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@cache
def tokenizer() -> Any:
    return chat_tokenizer(CALLING["json"], end="<|im_end|>")


@cache
def templates() -> dict[str, Any]:
    family = read_templates(REPOSITORY / "data/templates")["entities"]
    return {"families": {"entities": family.as_dict()}, "max_length_tokens": 400}


class Scripted:
    """Answers with a text, and the end token. Its first token is the more probable one of two."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, path: str, prompt: list[int]) -> list[Any]:
        ids = [*tokenizer().encode(self.text, add_special_tokens=False), tokenizer().eos_token_id]
        return [(token, -0.25, {token: -0.25, 5: -1.5, 6: -2.5}) for token in ids]


@pytest.fixture
def toy() -> Iterator[ToyVllm]:
    server = ToyVllm(tokenizer(), Scripted("很好, thank you."))
    yield server
    server.close()


async def opened(toy: ToyVllm, **settings: Any) -> RemoteEngine:
    chosen = {"stall_seconds": 0.3, **settings}
    server = await RemoteServer.started(
        EngineSettings(kind="url", base_url=toy.base_url, **chosen), Path("base"), "float32"
    )
    await server.load(NAME, PATH)
    ends = frozenset({tokenizer().eos_token_id})
    facts = EngineFacts(server.engine, "unknown", False, toy.context, ("entities",))
    return RemoteEngine(
        server, NAME, tokenizer(), Decoding(ends, toy.context, 1.1, templates()), facts, 48, server.close
    )


def answers(toy: ToyVllm, prompt: Any = HELLO, choices: int = 1, **sampling: Any) -> list[Event]:
    async def run() -> list[Event]:
        engine = await opened(toy)
        try:
            request = Request("resp_1", prompt, Sampling(**{"max_tokens": 64, **sampling}), choices)
            return [event async for event in engine.answer(request)]
        finally:
            await engine.close()

    return asyncio.run(run())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


def finished(events: Sequence[Event]) -> list[Finished]:
    return [event for event in events if isinstance(event, Finished)]


def pieces(events: Sequence[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.choice == choice)


@pytest.mark.parametrize("has_ids", [True, False])
def test_the_pieces_of_an_answer_are_the_text_that_evaluation_reads(toy: ToyVllm, has_ids: bool) -> None:
    toy.faults.has_ids = has_ids
    toy.respond = Scripted(" 安 thinks:\n<think>因为</think> it is 北京。 ")
    events = answers(toy)
    (answer,) = finished(events)
    assert isinstance(events[0], Started)
    assert answer.text == pieces(events) == "安 thinks:\n<think>因为</think> it is 北京。"
    assert (answer.reason, answer.is_unparsed) == ("stop", False)
    assert sum(isinstance(event, Delta) for event in events) > 5


def test_the_server_gets_the_trained_tokens_and_no_setting_is_left_to_its_defaults(toy: ToyVllm) -> None:
    events = answers(toy, temperature=0.5, top_p=0.9, seed=3, stop=("\n",), choices=2)
    (body,) = toy.requests
    expected = Prompts(tokenizer()).of_chat([dict(message) for message in HELLO.messages])
    assert body["prompt"] == expected
    assert isinstance(events[0], Started)
    assert events[0].prompt_tokens == len(expected)
    names = ("model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "n", "stop", "repetition_penalty")
    assert [body[name] for name in names] == [NAME, 64, 0.5, 0.9, -1, 0.0, 3, 2, ["\n"], 1.1]
    assert body["stop_token_ids"] == [tokenizer().eos_token_id]


def test_a_task_is_rendered_by_the_version_and_read_as_in_evaluation(toy: ToyVllm) -> None:
    toy.respond = Scripted("PER：安")
    prompt = TaskPrompt("entities", {"text": "安在巴黎。"}, "entities-zh-1")
    events = answers(toy, prompt, max_tokens=None)
    (answer,) = finished(events)
    made = FamilyPrompts(tokenizer(), templates()).of("entities", {"text": "安在巴黎。"}, prompt.template)
    assert toy.requests[0]["prompt"] == made.ids
    assert toy.requests[0]["max_tokens"] == 48
    assert isinstance(events[0], Started)
    assert events[0].template == made.template
    assert (answer.text, answer.value) == ("PER：安", [{"type": "PER", "text": "安"}])
    with pytest.raises(RequestRejected) as rejected:
        answers(toy, TaskPrompt("unknown", {}))
    assert rejected.value.code == "unknown_family"


def test_calls_are_passed_on_whole(toy: ToyVllm) -> None:
    toy.respond = Scripted('<tool_call>{"name": "weather", "arguments": {"city": "北京"}}</tool_call>')
    events = answers(toy, ChatPrompt(HELLO.messages, (TOOL,)))
    (answer,) = finished(events)
    assert answer.reason == "tool_calls"
    assert [(call["name"], json.loads(call["arguments"])) for call in answer.calls] == [("weather", {"city": "北京"})]
    assert pieces(events) == ""


def test_choices_are_told_apart_and_greedy_ones_are_one_answer(toy: ToyVllm) -> None:
    toy.respond = lambda path, prompt: Scripted("one" if prompt[-1] != 1 else "two 二")(path, prompt)
    sampled = answers(toy, choices=2, temperature=1.0)
    assert {answer.choice: answer.text for answer in finished(sampled)} == {0: "one", 1: "two 二"}
    assert pieces(sampled, 1) == "two 二"
    greedy = answers(toy, choices=2)
    assert [answer.text for answer in finished(greedy)] == ["one", "one"]
    assert "n" not in toy.requests[-1]


def test_a_stop_string_ends_the_answer_before_it_although_the_server_goes_on(toy: ToyVllm) -> None:
    events = answers(toy, stop=(", th",), logprobs=1)
    (answer,) = finished(events)
    assert (answer.text, pieces(events), answer.reason) == ("很好", "很好", "stop")


def test_log_probabilities_have_the_bytes_of_parts_of_characters(toy: ToyVllm) -> None:
    events = answers(toy, logprobs=2)
    logprobs = [each for event in events if isinstance(event, Delta) for each in event.logprobs]
    assert b"".join(bytes(each.bytes) for each in logprobs).decode() == "很好, thank you."
    assert {each.logprob for each in logprobs} == {-0.25}
    assert all(len(each.top) == 2 and each.top[0][1] == -0.25 for each in logprobs)


def test_an_answer_that_is_cut_off_says_so(toy: ToyVllm) -> None:
    (answer,) = finished(answers(toy, max_tokens=3))
    assert (answer.reason, answer.tokens) == ("length", 3)


def test_a_server_that_ignores_a_schema_is_noticed(toy: ToyVllm) -> None:
    schema = '{"type": "object", "properties": {"城市": {"type": "string"}}}'
    with pytest.raises(EngineFailed, match="schema"):
        answers(toy, json_schema=schema)
    assert toy.requests[0]["response_format"]["json_schema"]["schema"] == json.loads(schema)
    toy.respond = Scripted('{"城市": "北京"}')
    assert finished(answers(toy, json_schema=schema))[0].text == '{"城市": "北京"}'
    answers(toy, json_schema="{}")
    assert toy.requests[-1]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"stalls_after": 2}, EngineLost),
        ({"stalls_after": 0, "comments": True}, EngineLost),
        ({"dies_after": 2}, EngineLost),
        ({"dies_after": 0}, EngineLost),
        ({"ends_early": True}, EngineFailed),
        ({"foreign_tokens": True}, EngineFailed),
        ({"reason": "abort"}, EngineFailed),
        ({"rejects": (400, error("This model's maximum context length is 8"), {})}, RequestRejected),
        ({"rejects": (400, error("top_k: not supported"), {})}, RequestRejected),
        ({"rejects": (429, error("busy"), {"retry-after": "7"})}, EngineBusy),
        ({"rejects": (503, "", {})}, EngineLost),
        ({"rejects": (500, error("CUDA error"), {})}, EngineFailed),
        ({"rejects": (200, "<html>", {})}, EngineLost),
    ],
    ids=str,
)
def test_each_fault_of_a_server_has_its_error(toy: ToyVllm, fault: dict[str, Any], outcome: type[Exception]) -> None:
    for name, value in fault.items():
        setattr(toy.faults, name, value)
    with pytest.raises(outcome) as caught:
        answers(toy)
    if isinstance(caught.value, RequestRejected):
        assert caught.value.code == ("prompt_too_long" if "context" in str(fault) else "engine_rejected")
    if isinstance(caught.value, EngineBusy):
        assert caught.value.retry_after == 7.0


def test_a_prompt_over_the_context_never_reaches_the_server(toy: ToyVllm) -> None:
    with pytest.raises(RequestRejected) as rejected:
        answers(toy, TextPrompt("long " * 600))
    assert rejected.value.code == "prompt_too_long"
    assert toy.requests == []


def test_a_cancelled_request_ends_the_one_in_the_server(toy: ToyVllm) -> None:
    toy.faults.stalls_after = 3

    async def run() -> None:
        engine = await opened(toy, stall_seconds=30)
        events = engine.answer(Request("resp_1", HELLO, Sampling(max_tokens=64)))
        async for event in events:
            if isinstance(event, Delta):
                break
        await events.aclose()  # type: ignore[attr-defined]
        await until(lambda: toy.lost_clients > 0)
        await engine.close()

    asyncio.run(run())
    assert toy.lost_clients == 1


def test_an_adapter_has_a_name_of_its_own_and_is_loaded_again_after_a_restart(toy: ToyVllm) -> None:
    async def run() -> None:
        engine = await opened(toy)
        toy.adapters.clear()  # the server was started again
        with pytest.raises(EngineLost):
            await anext_finished(engine)
        await until(lambda: bool(toy.adapters))
        assert (await anext_finished(engine)).text == "很好, thank you."
        await engine.server.unload(NAME)
        await engine.close()

    asyncio.run(run())
    assert toy.unloaded == [NAME]


async def anext_finished(engine: RemoteEngine) -> Finished:
    events = [event async for event in engine.answer(Request("r", HELLO, Sampling(max_tokens=64)))]
    return finished(events)[0]


def test_a_server_whose_engine_is_dead_gets_no_requests_until_it_is_well_again(toy: ToyVllm) -> None:
    async def run() -> None:
        engine = await opened(toy)
        toy.faults.is_unhealthy = True
        engine.server.suspect()
        await until(lambda: not engine.is_alive)
        toy.faults.is_unhealthy = False
        await until(lambda: engine.is_alive)
        assert (await anext_finished(engine)).text == "很好, thank you."
        await engine.close()

    asyncio.run(run())


def test_a_server_that_changes_its_version_is_not_used_without_a_check(toy: ToyVllm) -> None:
    async def run() -> None:
        engine = await opened(toy)
        toy.version = "0.12.0"
        engine.server.is_alive = False  # it was away
        engine.server.suspect()
        await until(lambda: "0.12.0" in engine.server.problem)
        assert not engine.is_alive
        assert "checked with vllm 0.11.0" in engine.server.problem
        with pytest.raises(EngineLost):
            await anext_finished(engine)
        await engine.close()

    asyncio.run(run())


def test_a_command_that_ends_is_started_again_and_requests_meanwhile_are_lost(
    toy: ToyVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.respond = lambda path, prompt: Scripted(f"by {Path(path).name} 好")(path, prompt)
    upstream = str(toy.server.server_port)
    relay = Path(REPOSITORY / "tests/support/relay.py")
    command = (sys.executable, str(relay), "{port}", "{model}", "{dtype}", upstream, "dies-after=1")

    async def run() -> list[str]:
        settings = EngineSettings(kind="command", command=command, stall_seconds=20)
        server = await RemoteServer.started(settings, tmp_path / "weights", "float32")
        facts = EngineFacts(server.engine, "fp32", False, toy.context)
        decoding = Decoding(frozenset({tokenizer().eos_token_id}), toy.context, 1.0, {})
        engine = RemoteEngine(server, server.base.name, tokenizer(), decoding, facts, 48, server.close)
        texts = [(await anext_finished(engine)).text]
        with pytest.raises(EngineLost):
            await anext_finished(engine)
        await until(lambda: engine.is_alive and server.starts == 2)
        texts.append((await anext_finished(engine)).text)
        await engine.close()
        return texts

    assert asyncio.run(run()) == ["by weights 好", "by weights 好"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"rejects_adapters": "LoRA rank 64 is greater than max_lora_rank 16"}, "max_lora_rank"),
        ({"loads_nothing": True}, "not among its models"),
    ],
    ids=str,
)
def test_an_adapter_that_is_not_there_after_it_was_loaded_is_an_error(
    toy: ToyVllm, fault: dict[str, Any], words: str
) -> None:
    for name, value in fault.items():
        setattr(toy.faults, name, value)
    with pytest.raises(SourceError, match=words):
        asyncio.run(opened(toy))


def test_other_weights_under_the_name_of_an_adapter_are_noticed(toy: ToyVllm) -> None:
    toy.adapters[NAME] = "/models/six"
    with pytest.raises(SourceError, match="other weights"):
        asyncio.run(opened(toy))


def test_a_server_of_several_bases_needs_a_name_and_a_dead_one_is_an_error(toy: ToyVllm) -> None:
    with pytest.raises(ConfigError, match="base_model"):
        asyncio.run(opened(toy, base_model="other"))
    assert asyncio.run(opened(toy, base_model=BASE)).model == NAME
    toy.close()
    with pytest.raises(SourceError, match="does not answer"):
        asyncio.run(opened(toy))


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "url"},
        {"kind": "url", "base_url": "gpu:8000"},
        {"kind": "command", "command": ("vllm", "serve")},
        {"kind": "embedded", "base_url": "http://gpu:8000/v1"},
    ],
    ids=str,
)
def test_settings_of_another_kind_of_engine_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"base_url|command"):
        EngineSettings(**settings)
