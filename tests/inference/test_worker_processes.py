"""Worker processes end when one of them or their parent fails; finished answers are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from support.project import REPOSITORY

from tasks.inference.engine import LogitsNotFinite, WorkerKilled
from tasks.inference.worker_processes import Emit, Take, decode_rows


def running() -> list[psutil.Process]:
    """Children of this process; servers that other tests share are among them."""
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    before = running()
    yield
    assert [child for child in running() if child not in before] == []


def test_every_row_is_decoded_once() -> None:
    def decode(take: Take, emit: Emit) -> None:
        while (index := take()) is not None:
            emit(index, [index, os.getpid()])

    for processes in (1, 2, 5):
        answers: list[tuple[int, list[int]]] = []
        record = answers.append
        decode_rows(decode, range(20, 0, -1), processes, lambda index, tokens, record=record: record((index, tokens)))
        assert sorted(index for index, _ in answers) == list(range(1, 21))
        assert all(tokens[0] == index for index, tokens in answers)
        assert (os.getpid() in {tokens[1] for _, tokens in answers}) == (processes == 1)


def test_a_killed_worker_ends_the_others_and_finished_answers_are_kept() -> None:
    def decode(take: Take, emit: Emit) -> None:
        index = take()
        assert index is not None
        if index == 0:
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        emit(index, [7])
        time.sleep(60)

    answers: dict[int, list[int]] = {}
    started = time.monotonic()
    with pytest.raises(WorkerKilled):
        decode_rows(decode, range(3), 3, answers.__setitem__)
    assert answers == {1: [7], 2: [7]}
    assert time.monotonic() - started < 10


class Unpicklable(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


@pytest.mark.parametrize(
    ("error", "expected"), [(LogitsNotFinite(), LogitsNotFinite), (Unpicklable("a reason", ""), RuntimeError)]
)
def test_an_error_of_a_worker_is_raised_here(error: Exception, expected: type[Exception]) -> None:
    def decode(take: Take, emit: Emit) -> None:
        raise error

    with pytest.raises(expected):
        decode_rows(decode, range(4), 2, lambda *_: None)


def test_workers_end_with_ctrl_c() -> None:
    def decode(take: Take, emit: Emit) -> None:
        emit(0, [1])
        time.sleep(60)

    def interrupt(index: int, tokens: list[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_rows(decode, range(4), 2, interrupt)


KILLED = """
import os, sys, time
from tasks.inference.worker_processes import decode_rows

def decode(take, emit):
    take()
    emit(0, [os.getpid()])
    time.sleep(60)

decode_rows(decode, range(4), 2, lambda index, tokens: print(*tokens, flush=True))
"""


def test_workers_end_within_seconds_of_a_killed_parent() -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_model_that_computes_nan_is_reported(processes: int, tiny_llama: Path, open_engine: Any) -> None:
    from tasks.base.load import load_tokenizer, load_weights

    model, tokenizer = load_weights(tiny_llama), load_tokenizer(tiny_llama)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3, 5] = float("nan")
    for changes in ({}, {"no_repeat_ngram_size": 2}):  # the second is decoded in padded batches
        model.generation_config.update(**changes)
        with pytest.raises(LogitsNotFinite):
            open_engine(model, tokenizer, processes=processes).generate([[5, 6, 7]] * 20, 4)


def test_nan_that_begins_within_an_answer_is_reported(llama: Any, open_engine: Any, monkeypatch: Any) -> None:
    from tasks.inference.decoder import SlotDecoder

    model, tokenizer = llama
    logits = SlotDecoder.logits

    def spoil(self: SlotDecoder) -> torch.Tensor:
        values = logits(self)
        if self.steps > 2:
            values[-1, 9] = float("nan")
        return values

    monkeypatch.setattr(SlotDecoder, "logits", spoil)
    with pytest.raises(LogitsNotFinite):
        open_engine(model, tokenizer).generate([[5, 6, 7]] * 4, 8)
