"""Checkpoints are gone on from only by the very work that wrote them: what decides over the weights names their folder."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest
from toypreferences import prepare

from tasks import paths
from tasks.finetune import checkpoints
from tasks.finetune.checkpoints import CODE, checkpoint_folder

REPOSITORY = Path(__file__).parents[2]
NO_SAY_IN_IT = {"errors", "files", "paths", "progress", "rendered", "start", "dataset", "row", "weights"}


def name_of(config: Any) -> str:
    with checkpoint_folder(config, "base") as folder:
        return folder.name


def imported(module: Path) -> set[str]:
    """Modules right below `tasks` that one imports, and those that they import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "tasks":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasks."):
            names.add((node.module or "").split(".")[1])
    found = {name for name in names if (REPOSITORY / "tasks" / f"{name}.py").is_file()} - NO_SAY_IN_IT
    return found.union(*(imported(REPOSITORY / "tasks" / f"{name}.py") for name in found))


def test_all_code_that_judges_answers_names_the_folder() -> None:
    judging = imported(REPOSITORY / "tasks" / "finetune" / "reward_functions.py")
    assert "similarity" in judging
    assert judging <= {path.stem for path in CODE if path.suffix == ".py"}


def test_other_rows_another_base_and_other_settings_are_another_work(project: Path, tiny_gpt2: Path) -> None:
    config = prepare(project, tiny_gpt2)
    before = name_of(config)
    assert name_of(config) == before
    with checkpoint_folder(config, "another base") as folder:
        assert folder.name != before
    assert name_of(prepare(project, tiny_gpt2, seed=5)) != before
    tokens = next(path for path in sorted(paths.RENDERED.rglob("*")) if path.is_file() and "train" in path.parts)
    tokens.write_bytes(tokens.read_bytes() + b" ")
    assert name_of(config) != before


def test_other_judging_code_and_another_file_of_the_launch_are_another_work(
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
    judging = next(path for path in CODE if path.name == "judging.py")
    other = shutil.copy(judging, project / "judging.py")
    monkeypatch.setattr(checkpoints, "CODE", tuple(other if path == judging else path for path in CODE))
    assert name_of(config) == after
    other.write_text(other.read_text() + "\n")
    assert name_of(config) != after
