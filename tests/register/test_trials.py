"""The trials of a search: child runs of the candidate's run, created once, and their plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import toyworld

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.register import stage
from tasks.register.mlflow_run import complete_trials
from tasks.tracking import live_metrics
from tasks.tracking.live_metrics import EVENTS_FILE, mirror_curves
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.search_plots import draw_last_search, draw_search


def trial(number: int, state: str, loss: float | None, losses: dict[str, float], rate: float) -> dict[str, Any]:
    problem = {"told": "the loss is nan"} if state == "failed" else {}
    parameters = {"learning_rate": rate, "lora.rank": 8}
    return {
        "number": number,
        "state": state,
        "parameters": parameters,
        "valid_loss": loss,
        "valid_losses": losses,
        **problem,
    }


SEARCH = {
    "sampler": "tpe",
    "best": {"trial": 2, "parameters": {"learning_rate": 3e-4, "lora.rank": 8}, "valid_loss": 1.25},
    "importance": {"learning_rate": 0.9, "lora.rank": 0.1},
    "trials": [
        trial(0, "complete", 1.5, {"2": 2.0, "4": 1.5}, 1e-4),
        trial(1, "stopped", None, {"2": 2.5}, 1e-5),
        trial(2, "complete", 1.25, {"2": 1.75, "4": 1.25}, 3e-4),
        trial(3, "failed", None, {}, 1e-1),
    ],
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = toyworld.stand_in("judged", tmp_path, monkeypatch)
    report = json.loads(paths.TRAINING_REPORT.read_text())
    paths.TRAINING_REPORT.write_text(json.dumps({**report, "search": SEARCH}))
    return root


def runs(registry: Registry) -> dict[str, Any]:
    """By name."""
    result = registry.client.search_runs([registry.experiment_id])
    assert len({run.info.run_name for run in result}) == len(result)
    return {run.info.run_name: run for run in result}


def test_the_trials_are_child_runs_with_their_parameters_and_states(world: Path) -> None:
    stage.run(load_config())
    registry = open_registry(load_config())
    result = runs(registry)
    parent = registry.version(1).run_id
    assert set(result) == {"candidate", "trial 1", "trial 2", "trial 3", "trial 4"}
    trials = [result[f"trial {number}"] for number in (1, 2, 3, 4)]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent}
    assert [run.info.status for run in trials] == ["FINISHED", "KILLED", "FINISHED", "FAILED"]
    assert [run.data.tags["strop.trial_state"] for run in trials] == ["complete", "stopped", "complete", "failed"]
    assert [run.data.metrics.get("valid_loss") for run in trials] == [1.5, None, 1.25, None]
    assert trials[0].data.params == {"learning_rate": "0.0001", "lora.rank": "8"}
    history = registry.client.get_metric_history(trials[2].info.run_id, "train/valid_loss")
    assert [(point.step, point.value) for point in history] == [(2, 1.75), (4, 1.25)]
    assert {file.path for file in registry.client.list_artifacts(parent, "search")} == {
        "search/history.svg", "search/importance.svg",
    }  # fmt: skip


def test_after_a_kill_among_the_trials_a_second_run_creates_each_once(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = open_registry(load_config())
    run_id = registry.create_run("candidate", {})
    real, calls = Registry.log_params, []

    def dying(self: Registry, *arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "log_params", dying)
        with pytest.raises(KeyboardInterrupt):
            complete_trials(registry, run_id, SEARCH)
    for _ in range(2):
        complete_trials(registry, run_id, SEARCH)
    result = runs(registry)
    assert len(result) == 5
    assert result["trial 2"].data.params == {"learning_rate": "1e-05", "lora.rank": "8"}


def test_trials_are_mirrored_live_and_the_same_runs_are_completed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_metrics, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(live_metrics, "TIMEOUT_SECONDS", 120)
    with mirror_curves(load_config()):
        paths.EVENTS.mkdir(parents=True, exist_ok=True)
        events = [{"step": 1, "loss": 3.0, "trial": 0}, {"step": 2, "valid_loss": 2.0, "trial": 0}]
        events.append({"step": 1, "loss": 9.0, "trial": 1})
        EVENTS_FILE.write_text("".join(json.dumps(event) + "\n" for event in events))
    registry = open_registry(load_config())
    assert runs(registry)["trial 1"].data.metrics == {"train/loss": 3.0, "train/valid_loss": 2.0}
    assert runs(registry)["finetune"].data.metrics == {}
    live = registry.find_run("strop.weights", weights_digest(paths.MODEL))
    stage.run(load_config())
    result = runs(registry)
    assert set(result) == {"finetune", "trial 1", "trial 2", "trial 3", "trial 4"}
    assert result["trial 1"].data.tags["mlflow.parentRunId"] == live
    assert result["trial 1"].data.metrics == {"train/loss": 3.0, "train/valid_loss": 1.5, "valid_loss": 1.5}


def test_plots_show_the_trials_and_are_removed_with_the_search(world: Path, tmp_path: Path) -> None:
    history, importance = draw_last_search()
    first = history.read_bytes()
    assert all(word in history.read_text() for word in ("trial", "stopped", "failed", "best so far"))
    assert all(word in importance.read_text() for word in ("learning_rate", "90%", "lora.rank"))
    assert draw_last_search()[0].read_bytes() == first
    only_failed = {**SEARCH, "trials": SEARCH["trials"][3:], "importance": {}}
    assert [path.name for path in draw_search(only_failed, tmp_path / "few")] == ["history.svg"]
    paths.TRAINING_REPORT.write_text("{}")
    assert draw_last_search() == []
    assert not paths.SEARCH_PLOTS.exists()
