"""A checkpoint is resumed only with the same inputs: the key of its folder covers all that affects the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.toypreferences import prepare

from tasks import paths
from tasks.finetune.loop import checkpoints
from tasks.finetune.loop.checkpoints import checkpoint_folder


def name_of(config: Any) -> str:
    with checkpoint_folder(config, "base") as folder:
        return folder.name


def test_other_rows_another_base_and_other_settings_have_another_checkpoint_folder(
    project: Path, tiny_gpt2: Path
) -> None:
    config = prepare(project, tiny_gpt2)
    before = name_of(config)
    assert name_of(config) == before
    with checkpoint_folder(config, "another base") as folder:
        assert folder.name != before
    assert name_of(prepare(project, tiny_gpt2, seed=5)) != before
    tokens = next(path for path in sorted(paths.RENDERED.rglob("*")) if path.is_file() and "train" in path.parts)
    tokens.write_bytes(tokens.read_bytes() + b" ")
    assert name_of(config) != before


def test_other_code_and_another_launch_file_have_another_checkpoint_folder(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing = project / "sharing.yaml"
    sharing.write_text("fsdp_config: {}")
    launch = {"processes": 2, "strategy": "fsdp", "config": str(sharing)}
    config = prepare(project, tiny_gpt2, gradient_accumulation_steps=2, launch=launch)
    before = name_of(config)
    assert name_of(config) == before
    sharing.write_text("fsdp_config: {fsdp_offload_params: true}")
    after = name_of(config)
    assert after != before
    monkeypatch.setattr(checkpoints, "code_digest", lambda *starts: f"other code below {starts}")
    assert name_of(config) != after
