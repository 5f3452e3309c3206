"""Answers by a server (`evaluate.engine`) are those of the embedded engine, and each fault of a server has one outcome."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
from support.toyendpoint import Reply
from support.toyserver import ToyServer

from tasks import paths
from tasks.base.generation import Answer
from tasks.base.load import load_tokenizer
from tasks.errors import ConfigError, SourceError
from tasks.evaluate import inference
from tasks.evaluate.inference import LazyModel, answer_prompts, open_model
from tasks.evaluate.models import ModelSpec
from tasks.evaluate.prediction_cache import PredictionCache
from tasks.evaluate.served_model import describe_inference
from tasks.evaluate.settings import EvaluateSettings
from tasks.inference import server as server_module
from tasks.inference import server_process
from tasks.runtime.run_origin import MARK
from tasks.runtime.threads import Threads

PROMPTS = [[5 + n, 17, 30 + 7 * n] for n in range(6)]
PROGRESS: Any = SimpleNamespace(advance=lambda count: None)


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server_module.ServerEngine.__init__, "__defaults__", (None, 0.01))  # short pauses


@pytest.fixture(scope="module")
def candidate(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Loads the base with an adapter that changes its answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, LlamaForCausalLM

    def load() -> Any:
        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(tiny_llama, tie_word_embeddings=False, initializer_range=0.2)
        model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
        lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        return get_peft_model(model, lora).eval()

    return SimpleNamespace(load=load, tokenizer=load_tokenizer(tiny_llama))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ToyServer]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[ToyServer] = []

    def make(**options: Any) -> ToyServer:
        servers.append(ToyServer(**options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def settings(**engine: Any) -> EvaluateSettings:
    options = {"max_new_tokens": 5, "precision": "fp32", "processes": 1}
    return EvaluateSettings.model_validate(options | ({"engine": {"attempts": 2, **engine}} if engine else {}))


@contextmanager
def opened(candidate: Any, options: EvaluateSettings) -> Iterator[LazyModel]:
    spec = ModelSpec("candidate", "d1", candidate.load)
    with open_model(spec, options, Threads("test", is_quiet=True)) as model:
        yield model


def answers(candidate: Any, options: EvaluateSettings, prompts: list[list[int]] = PROMPTS) -> tuple[list[Answer], Any]:
    with opened(candidate, options) as model:
        return answer_prompts(model, candidate.tokenizer, "base", prompts, options, PROGRESS), model.facts


def test_a_started_server_gets_the_merged_weights_and_answers_as_the_embedded_engine(
    candidate: Any, start: Callable[..., ToyServer]
) -> None:
    expected, nothing = answers(candidate, settings())
    assert nothing is None
    assert len(set(expected)) > 3, "or this test shows nothing"
    server = start()
    options = settings(command=server.command())
    assert answers(candidate, options) == (
        expected, {"version": "0.11.0", "is_verified": True, "agreement": {"rows": 6, "equal": 6}}
    )  # fmt: skip
    assert server.served == ["float32"]
    sent = server.requests[-1]["body"]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("the-model", 0.0, 5)
    assert not paths.SERVED.exists()
    folder = Path(sent["folder"])
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if str(folder) in (process.info["cmdline"] or [])
    ]


def test_answers_that_are_cached_start_no_server_and_another_version_answers_all_again(
    candidate: Any, start: Callable[..., ToyServer]
) -> None:
    server = start()
    options = settings(command=server.command())
    first = answers(candidate, options, PROMPTS[:4])
    count = len(server.requests)
    assert answers(candidate, options, PROMPTS[:4]) == first
    assert len(server.requests) == count
    answers(candidate, options)
    assert len(server.requests) == count + 6 + 2  # two new prompts, after the comparison of six
    server.version = "0.12.0"
    more = [*PROMPTS, [9, 9]]
    assert answers(candidate, options, more)[1]["version"] == "0.12.0"
    assert len(server.requests) == count + 8 + 7 + 7


def test_cached_answers_of_an_unknown_server_are_generated_again(
    candidate: Any, start: Callable[..., ToyServer]
) -> None:
    server = start()
    options = settings(command=server.command())
    first, count = answers(candidate, options), len(server.requests)
    (facts,) = paths.PREDICTION_CACHE.glob("*.json")
    facts.unlink()
    assert answers(candidate, options) == first
    assert len(server.requests) == 2 * count


def test_a_kill_after_another_version_answered_mixes_no_answers_of_both(
    candidate: Any, start: Callable[..., ToyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    options, more = settings(command=server.command()), [*PROMPTS, [9, 9]]
    answers(candidate, options)
    server.version = "0.12.0"
    with monkeypatch.context() as killed:
        killed.setattr(PredictionCache, "save", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            answers(candidate, options, more)
    count = len(server.requests)
    answers(candidate, options, more)
    assert len(server.requests) == count + 7 + 7


def test_one_server_answers_all_prompts_of_a_model_and_ends_when_its_weights_are_needed_here(
    candidate: Any, start: Callable[..., ToyServer]
) -> None:
    server = start()
    options = settings(command=server.command())
    with opened(candidate, options) as model:
        answer_prompts(model, candidate.tokenizer, "base", PROMPTS[:3], options, PROGRESS)
        first = model.served
        answer_prompts(model, candidate.tokenizer, "base", PROMPTS, options, PROGRESS)
        assert first is not None
        assert model.served is first
        model()
        assert model.served is None
        assert not paths.SERVED.exists()


def test_a_server_without_token_ids_is_read_from_its_text(candidate: Any, start: Callable[..., ToyServer]) -> None:
    expected, _ = answers(candidate, settings())
    assert answers(candidate, settings(command=start(has_token_ids=False).command()))[0] == expected


@pytest.mark.parametrize(
    ("fault", "engine", "error", "message"),
    [
        ("dies-at-once", {}, ConfigError, r"command: the server ended with exit code 1: loads \S+ \| 参数 weights \| "
         r"ValueError: unknown architecture"),
        ("hangs", {"start_seconds": 0.6}, SourceError, r"does not answer after 0.6 s: loads \S+ \| 参数 weights"),
        ("dies-after=9", {}, SourceError, r"command, the candidate: the server ended with exit code 9: .* \| CUDA out of memory"),
    ],
)  # fmt: skip
def test_a_server_that_fails_is_reported_with_the_end_of_its_log(
    candidate: Any, start: Callable[..., ToyServer], fault: str, engine: Any, error: type[Exception], message: str
) -> None:
    server = start()
    options = settings(command=server.command(fault), parallel_requests=1, **engine)
    with pytest.raises(error, match=message) as caught:
        answers(candidate, options)
    assert "\n" not in str(caught.value)
    assert not paths.SERVED.exists()
    if fault == "dies-after=9":  # three answers of six are kept
        server.requests.clear()
        answers(candidate, settings(command=server.command(fault), parallel_requests=1, attempts=3))
        assert len(server.requests) == 6 + 3


def test_a_program_of_the_project_is_found_from_the_folder_of_a_run(
    candidate: Any, start: Callable[..., ToyServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, program, work = start(), tmp_path / "tools" / "serve", tmp_path / "work"
    for folder in (program.parent, work):
        folder.mkdir()
    python, *arguments = server.command()
    program.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    program.chmod(0o755)
    snapshot = {"project": str(tmp_path), "commit": "", "tree": "", "left_out": [], "made": [], "began": 0}
    (work / MARK).write_text(json.dumps(snapshot))
    monkeypatch.chdir(work)
    assert answers(candidate, settings(command=("tools/serve", *arguments)))[1]["is_verified"]


def test_a_server_that_was_on_the_port_before_is_not_taken_for_the_commands(
    candidate: Any, start: Callable[..., ToyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other server is this process: it lists a model, and would answer."""
    other = start(folders={"theirs": Path("nowhere")})
    monkeypatch.setattr(server_process, "_free_port", lambda: other.server.server_port)
    with pytest.raises(
        SourceError, match=rf"port {other.server.server_port}, .* is held by \S+ \(process {os.getpid()}\)"
    ) as caught:
        answers(candidate, settings(command=start().command("hangs")))
    assert "\n" not in str(caught.value)
    assert not paths.SERVED.exists()


def test_a_secret_of_the_command_reaches_the_server_and_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", "k3y-of-the-server")
    command = (
        "serve",
        "{model}",
        "{port}",
        "--api-key",
        "${SERVER_KEY}",
        "--hf-token=hunter22",
        "--tokenizer",
        "toy",
        "--key-file",
        "a/b",
    )
    engine = settings(command=(*command, "--secret", "密码hunter33")).engine
    facts = {"candidate": {"version": "1", "is_verified": True}}
    shown = describe_inference(engine, facts)["settings"]["command"]
    assert shown == [*command[:5], "--hf-token=…", *command[6:], "--secret", "…"]
    assert server_process._filled_in(command, {})[4] == "k3y-of-the-server"


def test_a_command_that_does_not_exist_is_reported(candidate: Any) -> None:
    options = settings(command=("/opt/no/vllm", "{model}", "{port}"))
    with pytest.raises(
        ConfigError, match=r"exit code 127: /opt/no/vllm: No such file or directory\. Correct the command"
    ):
        answers(candidate, options)


@pytest.mark.parametrize("value", [{}, {"command": ["vllm", "{port}"]}, {"command": ["{model}{port}"], "urls": {}}])
def test_an_engine_has_a_command_with_its_placeholders_or_urls(value: Any) -> None:
    with pytest.raises(ValueError, match=r"set either|the command has no \{model\}"):
        EvaluateSettings.model_validate_json(json.dumps({"engine": value}))


@pytest.fixture
def folders(candidate: Any, tiny_llama: Path, tmp_path: Path) -> dict[str, Path]:
    """The candidate, merged, and another model, as a server of somebody else has them."""
    inference.write_model(
        candidate.load(), candidate.tokenizer, server_module.Decoding((0,)), tmp_path / "elsewhere" / "mine"
    )
    return {"mine": tmp_path / "elsewhere" / "mine", "other": tiny_llama}


def url(server: ToyServer, model: str = "mine") -> dict[str, Any]:
    return {"urls": {"candidate": {"base_url": server.base_url, "model": model}}}


def test_a_server_behind_a_url_gives_the_same_answers_and_is_not_verified(
    candidate: Any, start: Callable[..., ToyServer], folders: dict[str, Path]
) -> None:
    server = start(folders=folders)
    options = settings(**url(server))
    server.faults = [Reply(429, "busy", {"Retry-After": "0"}), Reply(503), Reply(body="<html>")]
    options = options.model_copy(update={"engine": options.engine.model_copy(update={"attempts": 4})})
    result, facts = answers(candidate, options)
    assert result == answers(candidate, settings())[0]
    assert not facts["is_verified"]
    entry = describe_inference(options.engine, {"base": None, "candidate": facts})
    assert (entry["name"], entry["is_verified"], entry["version"]) == (
        "server", {"candidate": False}, {"candidate": "0.11.0"}
    )  # fmt: skip
    assert entry["settings"]["urls"]["candidate"] == {"base_url": server.base_url, "model": "mine"}


@pytest.mark.parametrize(
    ("engine", "error", "message"),
    [
        ({"model": "other"}, SourceError, "of 6 answers of the server are those of the candidate: it serves another model"),
        ({"model": "missing"}, ConfigError, r"serves no model `missing`, but mine, other\. Correct evaluate\.engine\.urls\.cand"),
        ({"base_url": "http://127.0.0.1:9/v1"}, SourceError, "http://127.0.0.1:9/v1/models: does not list its models"),
    ],
)  # fmt: skip
def test_a_url_of_another_model_is_refused(
    candidate: Any, start: Callable[..., ToyServer], folders: dict[str, Path], engine: Any, error: Any, message: str
) -> None:
    served = {"base_url": start(folders=folders).base_url, "model": "mine", **engine}
    with pytest.raises(error, match=message):
        answers(candidate, settings(urls={"candidate": served}))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(429, "busy"), r"answers 429 \(busy\), 2 times"),
        (Reply(body='{"choices": [{"text": "x", "token_ids": [1.5]}]}'), "the response is not a completion"),
        (Reply(body='{"choices": [{"text": "x", "token_ids": [999999]}]}'), "1 tokens are no answer of this model"),
        (Reply(body='{"choices": [{"text": "x", "token_ids": [1, 2, 3, 4, 5, 6]}]}'), "6 tokens are no answer"),
        (Reply(400, '{"error": "context length"}'), r"answers 400 \(context length\)"),
        (Reply(body='{"choices": []}', after_seconds=0.4), r"no complete answer within 0\.3 s"),
    ],
    ids=["busy for ever", "no tokens", "other tokens", "too many", "refuses", "slow"],
)  # fmt: skip
def test_a_reply_that_is_no_answer_is_one_line(
    candidate: Any, start: Callable[..., ToyServer], folders: dict[str, Path], reply: Reply, message: str
) -> None:
    server = start(folders=folders)
    server.faults = [reply] * 50
    with pytest.raises(SourceError, match=message):
        answers(candidate, settings(**url(server), timeout_seconds=0.3))


def test_a_role_without_a_url_is_refused(candidate: Any, start: Callable[..., ToyServer]) -> None:
    engine = {"urls": {"base": {"base_url": start().base_url, "model": "m"}}}
    with pytest.raises(ConfigError, match=r"evaluate\.engine\.urls: has no server of the candidate\. Add `candidate:"):
        answers(candidate, settings(**engine))


def test_a_learned_prompt_cannot_be_served(candidate: Any) -> None:
    from peft import PromptTuningConfig, get_peft_model

    def load() -> Any:
        return get_peft_model(candidate.load().get_base_model(), PromptTuningConfig("CAUSAL_LM", num_virtual_tokens=2))

    options = settings(command=("{model}", "{port}"))
    with pytest.raises(
        ConfigError, match=r"the candidate cannot be served: it has a learned prompt.*Remove evaluate\.engine"
    ):
        answers(SimpleNamespace(load=load, tokenizer=candidate.tokenizer), options)


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tasks.inference import supervise

    script = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, {supervise.__file__!r}, str(os.getpid()), sys.executable, '-c', "
        "'import os, time; print(os.getpid(), flush=True); time.sleep(60)'], start_new_session=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))
    assert os.getpgid(server.pid) != os.getpgid(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs([server], timeout=10)[1] == []
