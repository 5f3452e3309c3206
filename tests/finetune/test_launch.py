"""Several processes: the same losses as one, one checkpoint that all resume from, and none that outlives the stage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.project import params, write_params
from support.two_processes import TWO

from tasks.config import load_config
from tasks.errors import ConfigError, TrainingError
from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.finetune.distributed.accelerate_env import sharding_environment
from tasks.finetune.distributed.launch import require_launch
from tasks.finetune.model.save import sharding_strategy


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ({"processes": 2}, "2 processes cannot share"),
        (
            {"processes": 2, "strategy": "fsdp"},
            "`config` (an accelerate file) is required for strategy: fsdp and deepspeed, and only allowed there",
        ),
        ({"processes": 2, "config": "x.yaml"}, "is required for strategy: fsdp and deepspeed, and only allowed there"),
        ({"processes": 2, "nodes": 2}, "`address` (host:port of the first node)"),
        ({"processes": 2, "nodes": 2, "address": "here"}, "should be host:port"),
        ({"strategy": "fsdp", "config": "x.yaml"}, "but there is one process"),
    ],
)
def test_an_invalid_launch_is_an_error_in_one_line_of_the_configuration(
    launch: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, params("base", [], finetune={"launch": launch}))
    with pytest.raises(ConfigError) as raised:
        load_config()
    assert message in str(raised.value)


def test_an_unavailable_strategy_is_reported_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def error_of(strategy: str) -> str:
        launch = {**TWO, "strategy": strategy, "config": "accelerate.yaml"}
        write_params(tmp_path, params("base", [], finetune={"gradient_accumulation_steps": 2, "launch": launch}))
        with pytest.raises(TrainingError) as raised:
            require_launch(load_config().finetune.launch)
        return str(raised.value)

    assert "accelerate.yaml: not found" in error_of("fsdp")
    Path("accelerate.yaml").write_text("distributed_type: MULTI_GPU")
    assert "distributed_type is MULTI_GPU, but finetune.launch.strategy: fsdp needs FSDP" in error_of("fsdp")
    Path("accelerate.yaml").write_text("{")
    assert "cannot be parsed as YAML" in error_of("fsdp")
    Path("accelerate.yaml").write_text("distributed_type: DEEPSPEED")
    assert "needs DeepSpeed. pip install deepspeed" in error_of("deepspeed")
    if not torch.cuda.is_available():
        Path("accelerate.yaml").write_text("distributed_type: FSDP")
        assert "strategy: fsdp needs GPUs, and there is none. Set strategy: ddp" in error_of("fsdp")


@pytest.mark.parametrize("threads", ["2,1", "many"])
def test_a_number_of_threads_that_accelerate_cannot_parse_stops_no_launch(
    threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    config = tmp_path / "accelerate.yaml"
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n")
    settings = LaunchSettings.model_validate({"processes": 2, "strategy": "fsdp", "config": str(config)})
    assert sharding_environment(settings)["FSDP_VERSION"] == "2"


def test_a_model_that_should_be_sharded_and_is_not_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(is_fsdp_enabled=False, is_deepspeed_enabled=False)
    assert sharding_strategy(trainer) == "ddp"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match="accelerate did not shard the model over the processes"):
        sharding_strategy(trainer)
