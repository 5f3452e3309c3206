"""On several GPUs each has a process. Here the processes run on a CPU; several GPUs were not at hand."""

from __future__ import annotations

import itertools
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.device_job import ToyJob

from tasks.base.generation import end_token_ids
from tasks.base.load import load_tokenizer, load_weights
from tasks.evaluate import inference
from tasks.evaluate.inference import LazyModel
from tasks.evaluate.models import ModelSpec
from tasks.evaluate.settings import EvaluateSettings
from tasks.inference import devices
from tasks.inference.devices import DeviceJob, DevicesEngine
from tasks.inference.engine import WorkerKilled
from tasks.inference.worker_processes import decode_on_devices
from tasks.runtime.threads import Threads


def test_every_row_is_decoded_once_by_the_process_of_some_device(tmp_path: Path) -> None:
    answers: dict[int, list[int]] = {}
    decode_on_devices(ToyJob(str(tmp_path), 2), ["cuda:0", "cuda:1"], range(40, 0, -1), answers.__setitem__)
    assert sorted(answers) == list(range(1, 41))
    process_of = {number: {pid for device, pid in answers.values() if device == number} for number in (0, 1)}
    assert [len(processes) for processes in process_of.values()] == [1, 1]
    assert process_of[0] != process_of[1]


def test_a_killed_process_of_a_device_is_reported(tmp_path: Path) -> None:
    answers: dict[int, list[int]] = {}
    with pytest.raises(WorkerKilled):
        decode_on_devices(ToyJob(str(tmp_path), killed="cuda:0"), ["cuda:0"], range(9), answers.__setitem__)
    assert len(answers) == 1


def test_the_job_of_a_device_gives_the_tokens_of_the_embedded_engine(tiny_gpt2: Path, open_engine: Any) -> None:
    tokenizer, load = load_tokenizer(tiny_gpt2), partial(load_weights, tiny_gpt2)
    prompts = [[5 + n, 40 + 3 * n] for n in range(9)]
    model = load()
    job = DeviceJob(load, tokenizer, "test", 4, 512, prompts, 6, end_token_ids(model, tokenizer))
    rows, answers = itertools.chain(range(9), itertools.repeat(None)), dict[int, list[int]]()
    pickle.loads(pickle.dumps(job))("cpu", lambda: next(rows), answers.__setitem__)
    engine = open_engine(model, tokenizer)
    assert [tokenizer.decode(answers[n]).strip() for n in range(9)] == [
        answer.text for answer in engine.generate(prompts, 6)
    ]


@pytest.mark.parametrize(("rows", "used"), [(7, 1), (8, 2), (100, 3)])
def test_as_many_devices_are_used_as_have_rows_for_a_batch(
    rows: int, used: int, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[Any] = []
    monkeypatch.setattr(devices, "decode_on_devices", lambda job, names, order, emit: chosen.append(list(names)))
    monkeypatch.setattr(devices, "answers_of", lambda prompts, tokenizer, ends, on_answers, decode: decode([], None))
    engine = DevicesEngine(lambda: None, None, ["cuda:0", "cuda:1", "cuda:2"], [0], "test", 4, None)
    engine.generate([[1]] * rows, 4)
    assert chosen == [["cuda:0", "cuda:1", "cuda:2"][:used]]


def test_evaluation_uses_all_gpus_and_frees_its_own_copy_of_the_weights(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "gpus", lambda: ["cuda:0", "cuda:1"])
    model = LazyModel(ModelSpec("base", "d", partial(load_weights, tiny_gpt2)), Threads("test", is_quiet=True))
    settings, tokenizer = EvaluateSettings(batch_rows=2), load_tokenizer(tiny_gpt2)
    engine = inference._own_engine(model, tokenizer, 4, settings)
    assert isinstance(engine, DevicesEngine)
    assert (engine.devices, engine.load) == (["cuda:0", "cuda:1"], model.spec.load)
    assert model._loaded is None
    assert not isinstance(inference._own_engine(model, tokenizer, 3, settings), DevicesEngine)
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 3)
    assert devices.gpus() == ["cuda:0", "cuda:1", "cuda:2"]
