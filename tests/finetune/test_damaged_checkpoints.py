"""A truncated or changed checkpoint is never resumed: the result is that of an undisturbed training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import toypreferences
from support.killed_training import EARLY, kill_at
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import TrainingError
from tasks.finetune import stage
from tasks.finetune.loop.checkpoints import last_checkpoint, require_best
from tasks.runtime.sealed_folder import SEAL, damage_of, seal

Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: list[Damage] = [cut, flip, Path.unlink]


def checkpoints(config: PipelineConfig) -> list[Path]:
    return sorted(paths.CHECKPOINTS.glob("*/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


@pytest.mark.parametrize("damage", DAMAGES, ids=["cut", "flipped", "gone"])
def test_each_file_of_the_newest_checkpoint_is_verified_and_the_previous_one_is_used(
    damage: Damage, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepare(project, tiny_llama, max_steps=6, checkpoint_every_steps=2)
    kill_at(monkeypatch, 5, "loss", config)
    older, newest = checkpoints(config)
    shutil.copytree(newest.parent, project / "kept")
    names = sorted(path.name for path in newest.iterdir())
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "adapter_model.safetensors"} <= set(
        names
    )
    assert last_checkpoint(newest.parent) == newest
    for name in names:
        if not (newest / name).stat().st_size:
            continue
        damage(newest / name)
        capsys.readouterr()
        assert last_checkpoint(newest.parent) == older, name
        assert not newest.exists()
        output = capsys.readouterr().err
        is_torn = name == SEAL and damage is Path.unlink  # as after a kill
        assert ("the checkpoint of step 4 is damaged" in output) != is_torn, name
        shutil.copytree(project / "kept" / newest.name, newest)


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_resumed_from_the_previous_checkpoint_it_ends_with_the_weights_of_an_undisturbed_training(
    objective: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up: Any = prepare if objective == "sft" else toypreferences.prepare
    config = set_up(project, tiny_llama, objective=objective, max_steps=6, checkpoint_every_steps=2)
    stage.run(config)
    digest = trained_digest()
    kill_at(monkeypatch, 5, "loss", config)
    flip(checkpoints(config)[-1] / "optimizer.pt")
    capsys.readouterr()
    stage.run(config)
    output = capsys.readouterr().err
    assert "the checkpoint of step 4 is damaged (optimizer.pt has changed since it was written)" in output
    assert "resumes from step 2" in output
    assert trained_digest() == digest


def test_if_every_checkpoint_is_damaged_training_restarts(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, max_steps=4, checkpoint_every_steps=1)
    stage.run(config)
    digest = trained_digest()
    kill_at(monkeypatch, 3, "loss", config)
    for path in checkpoints(config):
        cut(path / "adapter_model.safetensors")
    stage.run(config)
    assert trained_digest() == digest


def test_a_damaged_best_checkpoint_is_neither_resumed_nor_used_as_the_model(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, **EARLY)
    stage.run(config)
    digest = trained_digest()
    kill_at(monkeypatch, json.loads(paths.TRAINING_REPORT.read_text())["steps"], "loss", config)
    newest = checkpoints(config)[-1]
    state = json.loads((newest / "trainer_state.json").read_text())
    best = Path(state["best_model_checkpoint"])
    assert best.name != newest.name
    flip(best / "model.safetensors")
    stage.run(config)
    assert trained_digest() == digest


def test_the_best_checkpoint_is_verified_before_it_becomes_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    seal(folder)
    require_best(str(folder))
    flip(folder / "model.safetensors")
    with pytest.raises(TrainingError, match=r"the best checkpoint is damaged \(model.safetensors has changed"):
        require_best(str(folder))


def test_the_damaged_model_of_an_earlier_training_is_trained_again(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [{"objective": "sft", "max_steps": 2}]
    config = prepare(project, tiny_llama, max_steps=3, before=before)
    stage.run(config)
    digest = trained_digest()
    kill_at(monkeypatch, 3, "loss", config)
    (model,) = paths.CHECKPOINTS.glob("*/training-1/model")
    flip(model / "adapter_model.safetensors")
    stage.run(config)
    assert "is damaged; it is trained again" in capsys.readouterr().err
    assert trained_digest() == digest


def test_a_sealed_folder_names_its_damage(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a").write_bytes(b"12345678")
    assert damage_of(tmp_path) == "it is incomplete"
    seal(tmp_path)
    assert damage_of(tmp_path) == ""
    (tmp_path / "b").touch()
    assert damage_of(tmp_path) == "b does not belong to it"
    (tmp_path / "b").unlink()
    cut(tmp_path / "inner/a")
    assert damage_of(tmp_path) == "inner/a has 4 of 8 bytes"
    cut(tmp_path / SEAL)
    assert "cannot be read" in damage_of(tmp_path)
    (tmp_path / SEAL).write_text("[" * 100_000)
    assert "cannot be read" in damage_of(tmp_path)


def test_cached_answers_of_a_damaged_file_are_computed_again(project: Path) -> None:
    from tasks.evaluate.prediction_cache import PredictionCache

    kept = PredictionCache("model", pa.string())
    kept.add({f"key {position}": f"answer {position}" * 20 for position in range(200)})
    kept.save()
    whole = kept.path.read_bytes()
    assert len(PredictionCache("model", pa.string()).values) == 200
    for position in range(4, len(whole), max(len(whole) // 60, 1)):
        content = bytearray(whole)
        content[position] ^= 1
        kept.path.write_bytes(content)
        values = PredictionCache("model", pa.string()).values
        assert values in ({}, kept.values), position
    kept.path.write_bytes(whole[: len(whole) // 2])
    assert PredictionCache("model", pa.string()).values == {}
