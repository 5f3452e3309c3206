"""The plot of the training curves: one panel per measure, with training and validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAINING, VALIDATION, FAINT = "#9aa3ad", "#dd6b20", "#e3e6ea"
NAMES = {"loss": "loss (nats)", "learning_rate": "learning rate", "grad_norm": "gradient norm"}
"""The first panels, with their labels; the objective's other measures follow."""
MOST_PANELS = 9
WIDTH, HEIGHT, GAP, LEFT, BOTTOM, TOP = 6.4, 1.5, 0.25, 0.85, 0.5, 0.5
"""Sizes of a panel and of the margins, in inches."""


def draw_curves(points: Sequence[dict[str, float]]) -> Figure:
    """Draws every measure of the training by step."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    measures = _measures(points)
    panels = max(len(measures), 1)
    whole, tall = LEFT + WIDTH + 0.5, BOTTOM + panels * (HEIGHT + GAP) - GAP + TOP
    figure = Figure(figsize=(whole, tall))
    for index, name in enumerate(measures):
        bottom = (BOTTOM + (panels - 1 - index) * (HEIGHT + GAP)) / tall
        axes = figure.add_axes((LEFT / whole, bottom, WIDTH / whole, HEIGHT / tall))
        drawn: list[float] = []
        for key, label, colour, mark in (
            (name, "training", TRAINING, ""),
            (f"valid_{name}", "validation", VALIDATION, "o"),
        ):
            if values := [(point["step"], point[key]) for point in points if key in point]:
                axes.plot(
                    *zip(*values, strict=True), label=label, color=colour, marker=mark, markersize=5, linewidth=1.4
                )
                drawn += [value for _, value in values]
        axes.set_xlim(0, max(point["step"] for point in points) * 1.02)
        if min(drawn) >= 0:
            axes.set_ylim(bottom=0)
        axes.set_ylabel(NAMES.get(name, name.replace("_", " ")), fontsize=8)
        axes.yaxis.grid(True, color=FAINT)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        axes.yaxis.set_label_coords(-0.09, 0.5)
        axes.tick_params(labelbottom=index == panels - 1)
        if index == 0:
            axes.set_title("Training", pad=10)
            axes.legend(frameon=False, loc="upper right")
        if index == panels - 1:
            axes.set_xlabel("step")
    return figure


def _measures(points: Sequence[dict[str, float]]) -> list[str]:
    """The measures in the order of their panels; `valid_loss` shares the panel of `loss`."""
    names = {name.removeprefix("valid_") for point in points for name in point if name != "step"}
    others = sorted(names - NAMES.keys())
    return [*(name for name in NAMES if name in names), *others][:MOST_PANELS]


def read_curves(path: Path) -> list[dict[str, float]]:
    """The points of data/model/curves.jsonl; empty if there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
