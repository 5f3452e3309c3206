"""Models sharded by FSDP."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from support.toy_training import prepare, trained_digest
from support.two_processes import LONG, SMALL, TWO, assert_same_training, start, wait_for_step

from tasks import paths
from tasks.finetune import stage
from tasks.runtime.files import read_json

FSDP = """
distributed_type: FSDP
compute_environment: LOCAL_MACHINE
mixed_precision: "no"
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: FULL_STATE_DICT
"""


NEEDS_TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="a model is sharded over GPUs")


@pytest.mark.gpu
@NEEDS_TWO_GPUS
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_sharded_by_fsdp_has_the_losses_and_weights_of_an_unsharded_one(
    method: str, project: Path, tiny_llama: Path
) -> None:
    Path("fsdp.yaml").write_text(FSDP)
    settings = {**SMALL, "method": method, "learning_rate": 1e-3}
    launch = {**TWO, "strategy": "fsdp", "config": "fsdp.yaml"}
    assert_same_training(
        prepare(project, tiny_llama, **settings, launch=launch), prepare(project, tiny_llama, **settings)
    )
    assert read_json(paths.TRAINING_REPORT)["strategy"] == "fsdp"


@pytest.mark.gpu
@NEEDS_TWO_GPUS
def test_a_training_by_fsdp_resumes_after_a_signal(project: Path, tiny_llama: Path) -> None:
    Path("fsdp.yaml").write_text(FSDP)
    launch = {**TWO, "strategy": "fsdp", "config": "fsdp.yaml"}
    config = prepare(project, tiny_llama, **{**LONG, "max_steps": 30, "lora": {"rank": 4}}, launch=launch)
    stage.run(config)
    digest = trained_digest()
    process = start()
    wait_for_step(3, process)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 143, output
    again = start()
    _, output = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "resumes from step" in output
    assert trained_digest() == digest
