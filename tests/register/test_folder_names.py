"""Everything that a run stores is in its project, whatever the name of the project folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import toyworld

from tasks.config import load_config
from tasks.tracking.artifact_paths import ARTIFACTS, local_folder, location_for
from tasks.tracking.registry import open_registry

pytestmark = pytest.mark.usefixtures("warm")


def project(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = toyworld.stand_in("judged", tmp_path, monkeypatch).rename(tmp_path / name)
    monkeypatch.chdir(root)
    shutil.rmtree("mlflow")
    return root


@pytest.mark.parametrize("name", ["my%20project", "100%", "a b#c", "%E4%BD%A0 你好"])
def test_weights_receipt_and_plots_are_stored_in_a_project_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = project(name, tmp_path, monkeypatch)
    registry_files = root / ARTIFACTS
    version = toyworld.register().version
    assert list(tmp_path.iterdir()) == [root]
    assert {"receipt.json", "scores.svg", "adapter_model.safetensors"} <= {p.name for p in registry_files.rglob("*")}

    registry = open_registry(load_config())
    registered = registry.version(version)
    (weights,) = registry.weight_files(registered.source, tmp_path / "elsewhere")
    assert weights.is_relative_to(registry_files)
    assert registry.has_file(registered.run_id, "receipt.json")
    assert "receipt.json" in registry.run_files(registered.run_id, root)
    assert registry.foreign_location(registered) == ""


def test_a_registry_outside_of_any_project_may_be_in_a_folder_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toyworld.stand_in("judged", tmp_path, monkeypatch)
    shared = tmp_path / "all%20models"
    shared.mkdir()
    file = shared / "registry.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    assert local_folder(location_for(file), f"sqlite:///{file}") == shared / "artifacts"
    version = toyworld.register().version
    registry = open_registry(load_config())
    assert registry.has_weights(registry.version(version).source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all%20models", "project"]
    assert list((shared / "artifacts").rglob("adapter_model.safetensors"))


def test_a_question_mark_in_the_path_of_the_registry_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strop: Callable[..., tuple[int, str, str]]
) -> None:
    root = project("what?", tmp_path, monkeypatch)
    for command in ("run", "status"):
        code, _, err = strop(command)
        assert code == 1
        assert "the path contains a `?`, where the address of an SQLite file ends. Rename that folder" in err
        assert err.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == [root]
