"""A version in a process of its own: it answers as it was evaluated, and refuses what it cannot answer."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import REPOSITORY
from support.warm import warm_python

from tasks.base.heads import REWARD, head_logits
from tasks.base.load import load_tokenizer, load_trained, load_weights
from tasks.base.pin import pin_base
from tasks.base.settings import BaseSettings
from tasks.inference.embedded import EmbeddedEngine
from tasks.prompts.family_prompts import FamilyPrompts
from tasks.prompts.templates.templates import read_templates
from tasks.runtime.files import write_json
from tasks.runtime.threads import Threads
from tasks.serve.engine.client import WorkerEngine
from tasks.serve.engine.framing import read_frame
from tasks.serve.engine.messages import WorkerSpec, event_of, facts_of, frame, request_as_json
from tasks.serve.engine.request import (
    ChatPrompt,
    Delta,
    EngineFacts,
    Event,
    Finished,
    Request,
    RequestRejected,
    Sampling,
    Started,
    TaskPrompt,
    TextPrompt,
)
from tasks.serve.engine.version import load_version
from tasks.serve.engine.worker import Worker

FAMILIES = read_templates(REPOSITORY / "data/templates")
NEW_TOKENS = 10
USER = ({"role": "user", "content": "Name a city. 城市？"},)


def templates(form: str = "answers") -> dict[str, Any]:
    families = {name: entry.as_dict() for name, entry in FAMILIES.items()}
    return {"form": form, "max_length_tokens": 400, "families": families}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[Path]:
    """A project whose version is an adapter, in `model`."""
    from peft import LoraConfig, get_peft_model

    folder, before = tmp_path_factory.mktemp("served"), Path.cwd()
    os.chdir(folder)
    torch.manual_seed(1)
    settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load_weights(tiny_llama), settings).save_pretrained("model")
    load_tokenizer(tiny_llama).save_pretrained("model")
    write_json(folder / "model/templates.json", templates())
    yield folder
    os.chdir(before)


@pytest.fixture
def spec(folder: Path, tiny_llama: Path) -> WorkerSpec:
    return WorkerSpec("model", {"model": str(tiny_llama)}, "fp32", NEW_TOKENS)


async def events_of(engine: WorkerEngine, request: Request) -> list[Event]:
    return [event async for event in engine.answer(request)]


def text_of(events: list[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.choice == choice)


def run_with_worker(spec: WorkerSpec, scene: Callable[[WorkerEngine], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        command = (str(warm_python()), "-m", "tasks.serve.engine.worker")
        engine = await WorkerEngine.start(spec, command=command)
        try:
            await scene(engine)
        finally:
            await engine.close()

    asyncio.run(run())


def test_requests_at_the_same_time_are_answered_as_they_were_evaluated(
    spec: WorkerSpec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    fields = [{"text": f"The match ended {number}:1."} for number in range(4)]
    fields += [{"text": f"比赛以{number}比一结束。"} for number in range(4)]
    requests = [Request(f"resp_{number}", TaskPrompt("topic", each)) for number, each in enumerate(fields)]
    requests.append(Request("entities", TaskPrompt("entities", {"text": "安在巴黎。"})))

    async def scene(engine: WorkerEngine) -> None:
        assert engine.facts.families == tuple(FAMILIES)
        assert (engine.facts.precision, engine.facts.is_exact, engine.facts.context_tokens) == ("fp32", True, 512)
        cancelled = engine.answer(Request("gone", ChatPrompt(USER), Sampling(400, 1.0)))
        assert isinstance(await anext(cancelled), Started)
        results = await asyncio.gather(*(events_of(engine, request) for request in requests))
        for events, (prompt, answer) in zip(results, expected_answers(spec, requests), strict=True):
            read = prompt.reader.read(answer.text)
            start, end = events[0], events[-1]
            assert isinstance(start, Started)
            assert (start.prompt_tokens, start.template) == (len(prompt.ids), prompt.template)
            assert isinstance(end, Finished)
            assert (end.text, end.reason == "length") == (answer.text, answer.is_cut)
            assert (end.value, end.is_unparsed) == (read.as_json, read.is_unparsed)
            assert text_of(events) == answer.text
        await cancelled.aclose()  # type: ignore[attr-defined]
        await sampled_and_refused(engine)

    run_with_worker(spec, scene)


def expected_answers(spec: WorkerSpec, requests: list[Request]) -> list[Any]:
    """The prompt of each request, and its answer by the engine of the evaluation."""
    tokenizer = load_tokenizer(Path(spec.folder))
    model = load_trained(Path(spec.folder), pin_base(BaseSettings.model_validate(spec.base)))
    prompts = FamilyPrompts(tokenizer, templates(), 512)
    rendered = [
        prompts.of(request.prompt.family, request.prompt.fields)  # type: ignore[union-attr]
        for request in requests
    ]
    engine = EmbeddedEngine(
        model, tokenizer, stage="test", rows=8, processes=1, threads=Threads("test", is_quiet=True), positions=512
    )
    return list(zip(rendered, engine.generate([prompt.ids for prompt in rendered], NEW_TOKENS), strict=True))


async def sampled_and_refused(engine: WorkerEngine) -> None:
    answer = {"type": "object", "properties": {"答": {"enum": ["是", "否"]}}}
    schema = json.dumps({**answer, "required": ["答"], "additionalProperties": False})
    sampled = Sampling(6, 1.0, 0.95, seed=5, logprobs=1)
    first = await events_of(engine, Request("a", ChatPrompt(USER), sampled, choices=2))
    again, valid = await asyncio.gather(
        events_of(engine, Request("b", ChatPrompt(USER), sampled, choices=2)),
        events_of(engine, Request("json", TextPrompt("Is it so?"), Sampling(300, json_schema=schema))),
    )
    for choice in range(2):
        assert text_of(first, choice) == text_of(again, choice)
        reported = [
            each for event in first if isinstance(event, Delta) and event.choice == choice for each in event.logprobs
        ]
        assert len(reported) in (5, 6)
    assert json.loads(text_of(valid))["答"] in ("是", "否")
    for prompt, sampling, code in (
        (TaskPrompt("topics", {"text": "x"}), Sampling(), "unknown_family"),
        (TaskPrompt("topic", {"text": "x"}, "topic-fr"), Sampling(), "unknown_template"),
        (TaskPrompt("topic", {"text": "long " * 600}), Sampling(), "prompt_too_long"),
        (ChatPrompt(({"role": "user", "content": "长" * 600},)), Sampling(), "prompt_too_long"),
        (TextPrompt(""), Sampling(), "empty_prompt"),
        (TextPrompt("a \ud800"), Sampling(), "invalid_text"),
        (TextPrompt("a"), Sampling(json_schema='{"type": "nothing"}'), "invalid_schema"),
    ):
        with pytest.raises(RequestRejected) as refused:
            await events_of(engine, Request("refused", prompt, sampling))
        assert refused.value.code == code


@contextmanager
def worker_in_a_thread(spec: WorkerSpec) -> Iterator[tuple[EngineFacts, Callable[[Request], list[Any]]]]:
    """Without a process: the facts, and what answers one request."""
    ours, theirs = socket.socketpair()
    worker = Worker(load_version(spec), spec, theirs)
    thread = threading.Thread(target=worker.run)
    thread.start()

    def answer(request: Request) -> list[Any]:
        ours.sendall(frame({"add": request_as_json(request)}))
        events: list[Any] = []
        while not events or not isinstance(events[-1], (Finished, Exception)):
            message = read_frame(ours)
            assert message is not None
            events += [event_of(name, values) for _, name, values in message["events"]]
        return events

    try:
        ready = read_frame(ours)
        assert ready is not None
        yield facts_of(ready["ready"]), answer
    finally:
        ours.close()  # as that of a gateway that was killed
        thread.join(10)
        assert not thread.is_alive()
        theirs.close()


def test_a_model_that_slots_do_not_support_answers_one_request_after_the_other(
    spec: WorkerSpec, tmp_path: Path, tiny_llama: Path
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=400, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=16, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tiny_llama)
    tokenizer.save_pretrained(tmp_path)
    serial = WorkerSpec(str(tmp_path), spec.base, "fp32", NEW_TOKENS)
    with worker_in_a_thread(serial) as (facts, answer):
        assert not facts.is_exact
        (end,) = answer(Request("a", TextPrompt("It rained in"), Sampling(8)))[-1:]
        sampling = Sampling(8, 1.0, 0.9, seed=3, stop=("e",), logprobs=0)
        first, again = (answer(Request(name, TextPrompt("It rained in"), sampling)) for name in "bc")
        assert first == again
        assert "e" not in text_of(first)
    engine = EmbeddedEngine(
        load_weights(tmp_path), tokenizer, stage="test", rows=1, processes=1, threads=Threads("test", is_quiet=True)
    )
    (expected,) = engine.generate([tokenizer("It rained in")["input_ids"]], 8)
    assert (end.text, end.reason) == (expected.text, "length" if expected.is_cut else "stop")


@pytest.mark.parametrize("labels", [("sport", "体育", "tech"), REWARD])
def test_a_head_answers_with_the_probabilities_of_its_labels_or_a_reward(
    labels: tuple[str, ...], spec: WorkerSpec, tmp_path: Path, tiny_llama: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_llama, num_labels=len(labels), pad_token_id=0
    ).eval()
    model.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tiny_llama)
    tokenizer.save_pretrained(tmp_path)
    write_json(tmp_path / "labels.json", list(labels))
    document = templates("labels" if labels != REWARD else "ranked")
    write_json(tmp_path / "templates.json", document)
    fields = {"text": "The match ended 2:1."} | ({"output": "sport"} if labels == REWARD else {})
    head = WorkerSpec(str(tmp_path), spec.base, "fp32", NEW_TOKENS)
    with worker_in_a_thread(head) as (facts, answer):
        assert (facts.labels, facts.is_exact) == (labels, True)
        end = answer(Request("a", TaskPrompt("topic", fields)))[-1]
        (refused,) = answer(Request("b", ChatPrompt(USER)))
        assert isinstance(refused, RequestRejected)
        assert refused.code == "not_generative"
    loaded_tokenizer = load_tokenizer(tmp_path, generates=labels == REWARD)
    ids = FamilyPrompts(loaded_tokenizer, document, 512).of("topic", fields).ids
    logits = head_logits(model, [ids], 1)[0]
    if labels == REWARD:
        assert (end.value, end.scores) == (pytest.approx(logits[0], abs=1e-5), {"reward": end.value})
        return
    probabilities = torch.tensor(logits).softmax(0).tolist()
    expected = dict(zip(labels, probabilities, strict=True))
    assert end.scores == pytest.approx(expected, abs=1e-5)
    assert end.value == end.text == max(expected, key=expected.__getitem__) == next(iter(end.scores))


def test_a_version_whose_base_has_changed_is_refused_with_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.errors import StropError

    with pytest.raises(StropError):
        load_version(WorkerSpec("model", {"model": str(folder / "gone")}, "fp32", NEW_TOKENS))
