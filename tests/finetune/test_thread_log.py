"""The threads of a training: logged before use, replayed when it is resumed or rebuilt, and stored in the receipt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.killed_training import kill_at
from support.toy_training import prepare, trained_digest
from transformers import TrainerControl

from tasks import paths
from tasks.finetune import stage
from tasks.finetune.loop import thread_log
from tasks.finetune.loop.thread_log import REPLAYED_LOG, AdjustThreads, ThreadLog, first_threads
from tasks.finetune.step.cpu_attention import attend_in_batches
from tasks.finetune.work import Work
from tasks.reproduce.run_stages import recorded_threads
from tasks.runtime.files import read_json
from tasks.runtime.threads import Choice, Threads

FROM_STEP = [["last", 0, 2], ["last", 2, 1], ["last", 5, 2]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Resets the number of threads to one for the other tests."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A machine whose load allows 2 threads, 1 from step 2 on, 2 from step 5 on; returns step and threads of each computed step."""
    computed: list[tuple[int, int]] = []
    plain = AdjustThreads.on_step_begin

    def proposed(self: Threads) -> Choice | None:
        threads = {2: 1, 5: 2}.get(step[0])
        return Choice(threads, "a test") if threads is not None else None

    def on_step_begin(self: AdjustThreads, args: Any, state: Any, control: Any, **more: Any) -> None:
        step[0] = state.global_step
        plain(self, args, state, control, **more)
        computed.append((state.global_step, torch.get_num_threads()))

    step = [0]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(Threads, "choose", lambda self: Choice(2, "a test"))
    monkeypatch.setattr(Threads, "proposed", proposed)
    monkeypatch.setattr(AdjustThreads, "on_step_begin", on_step_begin)
    return computed


SETTINGS: dict[str, Any] = {"threads": None, "max_steps": 7, "checkpoint_every_steps": 3, "evaluations_per_epoch": 0}


def test_a_resumed_training_replays_the_threads_of_each_step_under_any_load(
    steps: list[tuple[int, int]], project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_gpt2, method="full", **SETTINGS)
    stage.run(config)
    expected, digest, report = list(steps), trained_digest(), read_json(paths.TRAINING_REPORT)
    assert expected == [(0, 2), (1, 2), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)]
    assert report["threads"] == 2
    assert report["threads_by_step"] == FROM_STEP
    steps.clear()
    kill_at(monkeypatch, 6, "loss", config)
    assert steps == expected[:6]
    steps.clear()
    # on another machine, the log has priority
    monkeypatch.setattr(Threads, "choose", lambda self: Choice(1, "a test"))
    monkeypatch.setattr(Threads, "proposed", lambda self: None)
    stage.run(config)
    assert steps == expected[3:]
    assert trained_digest() == digest
    assert read_json(paths.TRAINING_REPORT) == report


def test_a_rebuild_replays_the_log_of_the_receipt(
    steps: list[tuple[int, int]], project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = [["last", 0, 1], ["last", 3, 2]]
    environment = recorded_threads({"threads": 1, "training": {"threads_by_step": log}})
    assert environment["OMP_NUM_THREADS"] == "1"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stage.run(prepare(project, tiny_llama, **SETTINGS))
    assert [threads for _, threads in steps] == [1, 1, 1, 2, 2, 2, 2]
    assert read_json(paths.TRAINING_REPORT)["threads_by_step"] == log
    assert recorded_threads({"threads": 2, "training": {}}) == {"OMP_NUM_THREADS": "2"}


def test_an_explicit_number_is_never_adapted(
    steps: list[tuple[int, int]], project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(prepare(project, tiny_llama, **{**SETTINGS, "threads": 1}))
    assert {threads for _, threads in steps} == {1}
    report = read_json(paths.TRAINING_REPORT)
    assert report["threads"] == 1
    assert "threads_by_step" not in report


def test_another_number_in_the_environment_applies_from_the_resumed_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SimpleNamespace(threads=None)
    work: Any = Work(settings, record=None, precision="fp32", checkpoints=tmp_path)  # type: ignore[arg-type]
    log = ThreadLog(tmp_path / "threads.json")
    for step, threads in ((0, 2), (4, 1), (8, 2)):
        log.set("last", step, threads)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    follow = AdjustThreads(work, "last")
    assert follow.first == 2
    follow.on_train_begin(None, SimpleNamespace(global_step=6), TrainerControl())
    assert ThreadLog(tmp_path / "threads.json").entries == [("last", 0, 2), ("last", 4, 1), ("last", 6, 3)]


def test_several_trainings_share_one_log_and_several_nodes_ignore_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(Threads, "choose", lambda self: Choice(3 // self.processes, "a test"))
    monkeypatch.setattr(Threads, "choose_for_idle", lambda self: Choice(8 // self.processes, "a test"))
    settings = SimpleNamespace(threads=None)
    log = tmp_path / "threads.json"
    work: Any = Work(settings, None, "fp32", tmp_path / "before", before=1, thread_log=log)  # type: ignore[arg-type]
    assert first_threads(work, thread_log.training_name(work, None)) == 3
    assert first_threads(work, thread_log.training_name(work, 4), processes=2) == 1
    assert first_threads(work, "other", processes=2, nodes=2) == 4
    assert first_threads(work, "other", processes=1, nodes=2, node=1) == 8
    assert [entry[:2] for entry in map(tuple, read_json(log))] == [
        ("before-1", 0),
        ("before-1, trial 4", 0),
        ("other", 0),
    ]
    monkeypatch.setenv(REPLAYED_LOG, json.dumps([["other", 0, 5]]))
    assert first_threads(work, "other") == 5


def test_attention_of_short_examples_gives_the_same_bits_with_any_number_of_threads() -> None:
    """54 tokens an example: PyTorch's gradient of a softmax differs there in its last bits."""
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        lengths = [54] * 19
        states = [torch.randn(1, heads, sum(lengths), 16, requires_grad=True) for heads in (9, 3, 3)]
        out = attend_in_batches(*states, lengths, 0, 0.25)
        (out * torch.randn_like(out)).sum().backward()
        results.append([out.detach(), *(state.grad for state in states)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0][1:], other[1:], strict=True))
