"""Plots: the same bytes each time, Chinese kept as text, and no input that breaks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.evaluate.class_report import report_classes
from tasks.evaluate.curves import draw_curves
from tasks.evaluate.plots import MOST_CLASSES, _fold_rare, draw_plots, shorten
from tasks.evaluate.predictions import Row, score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings

SETTINGS = EvaluateSettings(bootstrap_samples=200)


def answered(labels: list[str], answers: list[str], family: str = "topic") -> list[Row]:
    fixed = {"batch": "b", "family": family, "kind": "classification", "language": "zh", "prompt": "p"}
    test: list[dict[str, Any]] = [{**fixed, "row_id": str(i), "target": label} for i, label in enumerate(labels)]
    return score_rows(test, answers)


def draw(folder: Path, rows: list[Row], curves: list[dict[str, float]] | None = None) -> dict[str, bytes]:
    file = folder / "curves.jsonl"
    if curves is not None:
        file.write_text("".join(json.dumps(point) + "\n" for point in curves))
    models = {role: describe_model(rows, SETTINGS) for role in ("base", "champion", "candidate")}
    return {path.name: path.read_bytes() for path in draw_plots(models, rows, file, folder / "plots")}


def test_plots_are_the_same_bytes_each_time_and_keep_chinese_as_text(tmp_path: Path) -> None:
    rows = answered(["体育", "科技", "sport"] * 4, ["体育", "体育", "no idea"] * 4)
    curves = [{"step": 1, "loss": 3.0, "learning_rate": 0.1}, {"step": 2, "loss": 2.0}, {"step": 2, "valid_loss": 2.1}]
    first = draw(tmp_path, rows, curves)
    assert sorted(first) == ["confusion-topic.svg", "families.svg", "training.svg"]
    assert first == draw(tmp_path, rows, curves)
    text = first["confusion-topic.svg"].decode()
    assert "体育" in text
    assert "PingFang SC" in text
    assert "Microsoft YaHei" in text


def test_the_curves_have_a_panel_for_each_measure_with_validation_beside_training(tmp_path: Path) -> None:
    curves = [{"step": step, "loss": 3.0 / step, "learning_rate": 0.1, "rewards/margins": -0.1} for step in (1, 2, 3)]
    curves += [{"step": 3, "valid_loss": 1.5, "valid_rewards/margins": 0.2}]
    figure = draw_curves(curves)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["loss (nats)", "learning rate", "rewards/margins"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1, 2]
    assert figure.axes[2].get_ylim()[0] < 0 <= figure.axes[0].get_ylim()[0]


def test_a_plot_of_an_earlier_round_does_not_stay(tmp_path: Path) -> None:
    draw(tmp_path, answered(["a", "b"], ["a", "b"], family="intent"))
    draw(tmp_path, answered(["a", "b"], ["a", "b"], family="topic"))
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["confusion-topic.svg", "families.svg"]


def test_awkward_labels_and_no_rows_at_all_are_drawn(tmp_path: Path) -> None:
    awkward = ["$x^2", "a\nb", "<b>&", "长" * 60, "_", "\\frac{", "$a$b$"]
    assert len(draw(tmp_path, answered(awkward, awkward))) == 2
    assert list(draw(tmp_path, [])) == ["families.svg"]


def test_a_long_label_is_cut_to_a_width_that_counts_chinese_twice() -> None:
    assert shorten("politics and government affairs") == "politics and government…"
    assert shorten("长" * 60) == "长" * 11 + "…"


def test_many_classes_are_folded_and_no_row_is_lost() -> None:
    targets = [f"label {i:02}" for i in range(60) for _ in range(1 + i % 7)]
    labels, counts = _fold_rare(report_classes(targets, targets))
    assert len(labels) == MOST_CLASSES
    assert counts.shape == (MOST_CLASSES, MOST_CLASSES + 1)
    assert counts.sum() == len(targets)
    assert labels[-1] == f"({60 - MOST_CLASSES + 1} rarer labels)"
