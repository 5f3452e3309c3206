"""A version enters service behind another engine only after its test rows went through it; each fault of a server is named."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.tiny_models import make_tiny_tokenizer
from support.toyvllm import BASE, ToyVllm, error

from tasks import paths
from tasks.audit.served import check_served
from tasks.errors import DataError, SourceError
from tasks.model_store.served_checks import SERVED_FILE, record_served, served_problems, tag_of
from tasks.scoring.targets import Frame
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.remote import RemoteEngine, facts_of
from tasks.serve.engine.remote_server import RemoteServer
from tasks.serve.engine.remote_version import Decoding, RemoteVersion
from tasks.serve.served_path import rows as rows_module
from tasks.serve.served_path.check import check_served_path
from tasks.serve.served_path.comparison import Policy, ServerAnswer, compare
from tasks.serve.served_path.enter import CheckedEngines, ServedPathRefused
from tasks.serve.served_path.job import Job
from tasks.serve.served_path.probe import ProbedRow, judge_probe
from tasks.serve.served_path.record import ServedCheck, check_path, identity_of, read_check, write_check
from tasks.serve.served_path.rows import CheckRow, choose_rows, rows_of_version
from tasks.vcs.dvc_outputs import StoredFile

ROWS = 80
NEW, OLD = "/models/new", "/models/old"
LABELS = ("sport", "体育")


@cache
def tokenizer() -> Any:
    return make_tiny_tokenizer()


def row(number: int, prediction: str | None = None, family: str = "topic") -> CheckRow:
    label = LABELS[number % 2]
    prompt = tokenizer().encode(f"第 {number} text")
    return CheckRow(
        f"{number:032x}", family, "classification", prompt, label, label if prediction is None else prediction
    )


def rows() -> list[CheckRow]:
    return [row(number) for number in range(ROWS)]


def logprob(path: str, prefix: Sequence[int], token: int) -> float:
    """What a toy model with these weights computes."""
    return -0.5 - zlib.crc32(f"{path} {[*prefix]} {token}".encode()) % 1000 / 500


def respond(path: str, prompt: list[int]) -> list[Any]:
    """The new adapter answers as in the evaluation, the old one and the base answer otherwise."""
    known = {tuple(each.prompt_ids): each.prediction for each in rows()}
    answer = known[tuple(prompt)] if path == NEW else "art" if path == OLD else "science"
    ids = [*tokenizer().encode(answer), tokenizer().eos_token_id]
    prefixes = [[*prompt, *ids[:place]] for place in range(len(ids))]
    return [
        (token, logprob(path, prefix, token), {other: logprob(path, prefix, other) for other in (token, 5, 6)})
        for prefix, token in zip(prefixes, ids, strict=True)
    ]


def reference(prompted: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float] | None]]:
    def of(path: str, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
        noise = 0.03  # bf16
        return [logprob(path, [*prompt, *tokens[:n]], token) + noise for n, token in enumerate(tokens)]

    return [(of(NEW, *each), of("", *each)) for each in prompted]


@pytest.fixture
def toy() -> Iterator[ToyVllm]:
    server = ToyVllm(tokenizer(), respond)
    yield server
    server.close()


@pytest.fixture
def version(tmp_path: Path) -> RemoteVersion:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    return RemoteVersion("toy", 7, "d" * 64, tmp_path / "model", tmp_path / "base", "bf16", 16)


def check(toy: ToyVllm, version: RemoteVersion, test: list[CheckRow] | None = None, **policy: Any) -> ServedCheck:
    settings = EngineSettings(kind="url", base_url=toy.base_url, stall_seconds=0.5)

    async def run() -> ServedCheck:
        server = await RemoteServer.started(settings, version.base_folder, "bfloat16")
        if "toy@v6+old" not in toy.adapters:
            await server.load("toy@v6+old", OLD)
        await server.load(version.name, NEW)
        decoding = Decoding(frozenset({tokenizer().eos_token_id}), None, 1.0, {})
        facts = facts_of(server, version, decoding)
        engine = RemoteEngine(server, version.name, tokenizer(), decoding, facts, 16, server.close)
        identity = identity_of(server.engine, "unknown", settings)
        encode = tokenizer().encode
        try:
            return await check_served_path(
                engine, version, identity, test or rows(), Policy(**policy), reference, encode
            )
        finally:
            await engine.close()

    return asyncio.run(run())


def test_a_server_that_answers_as_evaluated_passes_and_the_check_has_the_numbers(
    toy: ToyVllm, version: RemoteVersion
) -> None:
    result = check(toy, version)
    assert (result.passed, result.reason) == (True, "")
    assert result.probe["distance"] == pytest.approx(0.03)
    assert result.probe["effect"] > 0.3
    assert result.comparison is not None
    assert (result.comparison["rows"], result.comparison["equal"], result.comparison["agreement"]) == (ROWS, ROWS, 1.0)
    (family,) = result.comparison["families"]
    assert family["is_not_worse"] is True
    assert family["low"] > -0.1
    assert "80 of 80 answers equal" in result.summary


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"ignores_adapters": True}, "ignores the adapter"),
        ({"serves_old": True}, "another adapter that it has loaded"),
        ({"truncates": 1}, "not shown to be not worse"),
    ],
    ids=str,
)
def test_a_server_that_does_not_serve_the_version_is_refused_with_the_reason(
    toy: ToyVllm, version: RemoteVersion, fault: dict[str, Any], words: str
) -> None:
    for name, value in fault.items():
        setattr(toy.faults, name, value)
    result = check(toy, version)
    assert not result.passed
    assert words in result.reason
    assert (result.comparison is None) == ("adapter" in words)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"stalls_after": 0}, "does not answer a test row"),
        ({"rejects": (500, error("CUDA error"), {})}, "CUDA error"),
        ({"rejects": (200, '{"choices": [{"text": "x"}]}', {})}, "log probabilities"),
    ],
    ids=str,
)
def test_a_server_that_fails_shows_nothing_and_the_check_is_not_carried_out(
    toy: ToyVllm, version: RemoteVersion, fault: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.serve.served_path.server_answers.ATTEMPTS", 1)
    for name, value in fault.items():
        setattr(toy.faults, name, value)
    with pytest.raises(SourceError, match=words):
        check(toy, version)


def test_prompts_that_the_server_refuses_count_as_wrong_answers(toy: ToyVllm, version: RemoteVersion) -> None:
    long = replace(row(1), prompt_ids=[5] * (toy.context + 10), row_id="f" * 32)
    result = check(toy, version, [*rows(), *[replace(long, row_id=f"f{n:031x}") for n in range(20)]])
    assert not result.passed
    assert "not shown to be not worse" in result.reason


def probed(served: float, expected: float, base: float | None, first: float = 0.0, without: float = 1.0) -> ProbedRow:
    return ProbedRow([served] * 8, [expected] * 8, None if base is None else [base] * 8, {3: first}, {3: without})


@pytest.mark.parametrize(
    ("one", "finding"),
    [
        (probed(-1.0, -1.05, -2.0), ""),
        (probed(-2.0, -1.05, -2.0, first=1.0), "ignores"),
        (probed(-1.95, -1.05, -2.0), "base"),
        (probed(-5.0, -1.05, -2.0), "other"),
        (probed(-1.0, -1.05, -1.07), "weak"),
        (probed(float("nan"), -1.05, -2.0), "other"),
        (probed(-1.0, -1.05, None), ""),
        (probed(-1.4, -1.05, None), "other"),
    ],
    ids=str,
)
def test_log_probabilities_show_which_weights_a_server_has(one: ProbedRow, finding: str) -> None:
    result = judge_probe([one, one])
    assert result.finding == finding
    assert bool(result.reason) == bool(finding)
    exact = judge_probe([one, one], tolerance=0.01)
    assert exact.finding != ""


def answers(texts: list[str]) -> list[ServerAnswer]:
    return [ServerAnswer(text) for text in texts]


def test_answers_must_be_not_worse_in_every_family_that_has_enough_rows() -> None:
    test = [row(number, family="topic" if number < 80 else "qa") for number in range(90)]
    good = [each.prediction for each in test]
    result = compare(test, answers(good), tokenizer().encode, Policy())
    assert result.reason == ""
    assert [(each.family, each.rows, each.is_not_worse) for each in result.families] == [
        ("qa", 10, None),
        ("topic", 80, True),
    ]
    worse = [*["art"] * 30, *good[30:]]
    result = compare(test, answers(worse), tokenizer().encode, Policy())
    assert "topic: -0.375" in result.reason
    assert compare(test, answers(worse), tokenizer().encode, Policy(margins={"topic": 0.9})).reason == ""


def test_few_rows_of_every_family_are_compared_together_and_too_few_show_nothing() -> None:
    test = [row(number, family=f"family {number % 9}") for number in range(90)]
    good = answers([each.prediction for each in test])
    assert compare(test, good, tokenizer().encode, Policy()).families[-1].family == "all families"
    assert compare(test, good, tokenizer().encode, Policy()).reason == ""
    assert "too few" in compare(test[:9], good[:9], tokenizer().encode, Policy()).reason


def test_agreement_counts_the_tokens_before_the_first_difference() -> None:
    test = [row(0, "很好 one two")]
    tokens = tokenizer().encode("很好 one two")
    result = compare(test, answers([tokenizer().decode(tokens[:-2])]), tokenizer().encode, Policy())
    assert result.agreement == pytest.approx((len(tokens) - 2) / len(tokens))
    assert result.equal == 0


def test_a_thought_and_a_frame_are_read_as_in_the_evaluation() -> None:
    framed = replace(row(0, "Topic: sport"), target="sport", frame=Frame("Topic: ", ""), opens_thought=True)
    test = [replace(framed, row_id=f"{n:032x}") for n in range(80)]
    thought = answers(["因为</think>Topic: sport"] * 80)
    result = compare(test, thought, tokenizer().encode, Policy(least_agreement=0.0))
    assert result.families[0].difference == 1.0  # the evaluated answer ended within its thought


def test_families_take_turns_where_not_all_rows_are_sent() -> None:
    test = [row(n) for n in range(50)] + [row(n + 50, family="qa") for n in range(5)]
    chosen = choose_rows(test, 10)
    assert [each.family for each in chosen] == ["qa", "topic"] * 5
    assert choose_rows([*reversed(test)], 10) == chosen


def test_rows_are_those_that_the_version_answered_with_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = {"family": "topic", "kind": "classification", "target": "体育", "before": "", "after": "", "question": "?"}
    test = [{"row_id": name, "prompt_ids": [1, 2], "opens_thought": False, **fixed} for name in "abc"]
    predictions = [
        {"row_id": name, "prediction": "体育", "is_cut": False, "bits": bits}
        for name, bits in (("a", None), ("b", 3.5))
    ]
    files = {paths.RENDERED: ("test.parquet", test), paths.PREDICTIONS: ("candidate.parquet", predictions)}
    for name, content in files.values():
        pq.write_table(pa.Table.from_pylist(content), tmp_path / name)

    def stored(commit: str, path: Path, listing_only: bool = False) -> list[StoredFile]:
        name = files[path][0]
        return [StoredFile(name, "0" * 32, tmp_path / name)]

    monkeypatch.setattr(rows_module, "stored_files", stored)
    (answered,) = rows_of_version("c" * 40)
    assert (answered.row_id, answered.prompt_ids, answered.prediction) == ("a", [1, 2], "体育")
    pq.write_table(pa.Table.from_pylist([predictions[1]]), tmp_path / "candidate.parquet")
    with pytest.raises(DataError, match="no test rows"):
        rows_of_version("c" * 40)


def config_of(toy: ToyVllm) -> Any:
    from tasks.gate.settings import GateSettings

    settings = EngineSettings(kind="url", base_url=toy.base_url, models_folder="/models")
    return SimpleNamespace(serve=SimpleNamespace(engine=settings), gate=GateSettings())


@pytest.mark.parametrize("passed", [True, False])
def test_a_version_enters_service_by_its_stored_check_alone(
    toy: ToyVllm, version: RemoteVersion, passed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "MODELS", tmp_path)
    decoding = Decoding(frozenset({tokenizer().eos_token_id}), 512, 1.0, {})
    monkeypatch.setattr("tasks.serve.engine.remote_engines._described", lambda version: (tokenizer(), decoding))
    engines = CheckedEngines(config_of(toy))
    identity = identity_of("vllm 0.11.0", "unknown", engines.settings)
    result = replace(check(toy, version), passed=passed, reason="" if passed else "it is slow")
    path = check_path(version, identity, engines.policy)
    write_check(path, result)
    toy.adapters.clear()

    async def run() -> bool:
        engine = await engines.start(version, "c" * 40, {"base": {}})
        is_alive = engine.is_alive
        assert toy.adapters == {version.name: "/models/model"}
        await engine.close()
        await engines.close()
        return is_alive

    if passed:
        assert asyncio.run(run())
    else:
        with pytest.raises(ServedPathRefused, match="it is slow"):
            asyncio.run(run())
    assert toy.unloaded == [version.name]
    others = [replace(version, number=8), replace(version, weights="e" * 64)]
    assert not any(read_check(check_path(other, identity, engines.policy)) for other in others)
    upgraded = identity_of("vllm 0.12.0", "unknown", engines.settings)
    assert read_check(check_path(version, upgraded, engines.policy)) is None


def test_a_job_survives_its_file(version: RemoteVersion, tmp_path: Path) -> None:
    identity = identity_of("vllm 0.11.0", "bf16", EngineSettings(kind="url", base_url="http://gpu:8000/v1"))
    job = Job(version, "c" * 40, {}, identity, Policy(), "http://gpu:8000/v1", "n", BASE, None, 1.0, tmp_path / "r")
    assert Job.from_json(json.loads(json.dumps(job.as_json()))) == job


def test_no_secret_of_a_command_is_in_a_record() -> None:
    command = ("vllm", "{model}", "{port}", "--api-key", "sk-abc", "--tokenizer", "x")
    shown = identity_of("vllm 1", "bf16", EngineSettings(kind="command", command=command)).settings["command"]
    assert "sk-abc" not in shown
    assert "--tokenizer" in shown


class FakeRegistry:
    """Tags and files of one version, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tags = folder, {}  # type: ignore[var-annotated]

    def has_file(self, run_id: str, name: str) -> bool:
        return (self.folder / name).is_file()

    def download_file(self, run_id: str, name: str, folder: Path) -> Path:
        return self.folder / name

    def log_files(self, run_id: str, path: Path) -> None:
        (self.folder / path.name).write_bytes(path.read_bytes())

    def set_version_tags(self, number: int, tags: dict[str, str]) -> None:
        self.tags |= tags


def test_checks_of_several_engines_are_in_the_registry_and_the_audit_lists_them(tmp_path: Path) -> None:
    registry = FakeRegistry(tmp_path)
    numbered: Any = SimpleNamespace(version=7, run_id="r", tags=registry.tags)
    good = {"passed": True, "weights": "d" * 64, "engine": "vllm 0.11.0", "precision": "bf16", "when": "2026-12-01T00"}
    bad = good | {"passed": False, "reason": "忽略 the adapter", "engine": "sglang 0.5"}
    for digest, document in (("aaa", good), ("bbb", bad)):
        record_served(registry, numbered, digest, document)  # type: ignore[arg-type]
    assert registry.tags == {tag_of("aaa"): "passed", tag_of("bbb"): "failed"}

    def audited(weights: str = "d" * 64) -> Any:
        subject: Any = SimpleNamespace(
            run_files={SERVED_FILE: tmp_path / SERVED_FILE}, version=numbered, receipt={"weights": weights}
        )
        return check_served(subject)

    assert audited().ok
    assert audited().detail == (
        "vllm 0.11.0 bf16 on 2026-12-01: passed; sglang 0.5 bf16 on 2026-12-01: failed (忽略 the adapter)"
    )
    assert "other weights" in audited("e" * 64).detail
    registry.tags[tag_of("bbb")] = "passed"
    assert not audited().ok
    registry.tags[tag_of("ccc")] = "passed"
    assert "lacks the check" in audited().detail
    nothing: Any = SimpleNamespace(run_files={}, version=SimpleNamespace(tags={}), receipt={"weights": ""})
    assert check_served(nothing).ok
    assert [*served_problems({}, {}, "")] == []
