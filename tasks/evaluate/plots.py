"""Plots as SVG: scores by family with intervals, a confusion matrix per classification family, the training curves.

Text stays text, so that a browser shows Chinese labels with its own fonts; equal numbers give equal bytes. The space for
labels is computed from their characters, not from the fonts of this machine.
"""

from __future__ import annotations

import shutil
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.evaluate.class_report import OTHER, ClassReport, report_classes
from tasks.evaluate.curves import draw_curves, read_curves
from tasks.evaluate.predictions import Row
from tasks.evaluate.report import group
from tasks.runtime.plot_style import FONTS
from tasks.runtime.visible_text import printable
from tasks.scoring.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"base": "#9aa3ad", "champion": "#3f6fb5", "candidate": "#dd6b20"}
INK, FAINT = "#2d3339", "#e3e6ea"
STYLE = {
    "axes.edgecolor": "#b5bcc4",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": FONTS,
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "strop",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
LABEL_WIDTH = 24
"""Longest label, in columns: a Chinese character takes two."""
MOST_CLASSES = 25
INCH_A_COLUMN = 0.075
"""Width of a Latin letter of 9 points."""


def draw_plots(models: dict[str, Any], candidate: Sequence[Row], curves: Path, folder: Path) -> list[Path]:
    """Draws all plots into `folder`, which is emptied first; returns their paths."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with _styled():
        figures = {"families": draw_families(models)}
        for family, rows in group(candidate, "family").items():
            if METRICS[rows[0]["kind"]].is_classification:
                classes = report_classes([row["read"] for row in rows], [row["target"] for row in rows])
                figures[f"confusion-{family}"] = draw_confusion(family, classes)
        if points := read_curves(curves):
            figures["training"] = draw_curves(points)
        return [_save(figure, folder / f"{name}.svg") for name, figure in figures.items()]


def draw_families(models: dict[str, Any]) -> Figure:
    """One line per family, and the whole test set on top if it has one metric; one dot with its interval per model."""
    has_mean = "overall" in models["candidate"]
    lines = [("overall", {role: model["overall"] for role, model in models.items()})] if has_mean else []
    for family in models["candidate"]["families"]:
        lines.append((family, {role: model["families"][family] for role, model in models.items()}))
    lines = [(name, measured) for name, measured in lines if measured["candidate"]["rows"]]
    labels = [f"{shorten(name)}\n{measured['candidate']['rows']} rows" for name, measured in lines]
    figure, axes = _figure(6.4, 0.8 + 0.62 * max(len(lines), 1), left=_label_space(labels), bottom=0.45, top=0.62)
    spread = np.linspace(-0.22, 0.22, len(models)) if len(models) > 1 else np.zeros(1)
    for offset, role in zip(spread, models, strict=True):
        scores = np.array([measured[role]["score"] for _, measured in lines])
        ends = np.array([measured[role]["interval"] for _, measured in lines]).reshape(-1, 2)
        positions = np.arange(len(lines)) + offset
        axes.hlines(positions, ends[:, 0], ends[:, 1], color=COLOURS[role], linewidth=2.2, alpha=0.55)
        axes.plot(scores, positions, "o", color=COLOURS[role], markersize=6, label=role)
        for score, position in zip(scores, positions, strict=True):
            axes.text(1.02, position, f"{score:.2f}", va="center", color=COLOURS[role], fontsize=8)
    axes.set_yticks(range(len(lines)), labels)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("score")
    axes.xaxis.grid(True, color=FAINT)
    axes.set_axisbelow(True)
    axes.tick_params(left=False)
    axes.set_title("Scores on the held-out rows", pad=24)
    if lines:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(models), frameon=False, borderaxespad=0.2)
    return figure


def draw_confusion(family: str, classes: ClassReport) -> Figure:
    """The confusion matrix: target labels (rows), the candidate's answers (columns), colours by share of the row."""
    labels, counts = _fold_rare(classes)
    rows, columns = [shorten(label) for label in labels], [shorten(label) for label in [*labels, OTHER]]
    cell, left, bottom = 0.42, _label_space(rows, lines=2), _label_space(columns) * 0.68 + 0.3
    figure, axes = _figure(cell * len(columns), cell * max(len(rows), 1), left=left, bottom=bottom, top=0.5, right=0.5)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if counts.size:
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("strop", ["#ffffff", "#fbe3cf", COLOURS["candidate"]])
        axes.imshow(shares, cmap=shades, vmin=0, vmax=1, aspect="equal")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.75 else INK
            axes.annotate(f"{count}", (column, row), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("the candidate's answer")
    axes.set_ylabel("label")
    axes.set_title(f"{shorten(family)}: answers to each label", pad=10)
    return figure


def shorten(label: str) -> str:
    """The label on one line, in at most LABEL_WIDTH columns, with `$` escaped for matplotlib."""
    label = " ".join(printable(label).split())
    if _columns(label) > LABEL_WIDTH:
        while _columns(label) > LABEL_WIDTH - 1:
            label = label[:-1]
        label += "…"
    return label.replace("$", r"\$")


def _fold_rare(classes: ClassReport) -> tuple[list[str], Any]:
    """Labels and counts; with more than MOST_CLASSES labels, the rarest share a row and a column."""
    counts = np.array(classes.confusion, dtype=np.int64).reshape(len(classes.labels), len(classes.labels) + 1)
    if len(classes.labels) <= MOST_CLASSES:
        return classes.labels, counts
    kept = sorted(np.argsort(-np.array(classes.rows), kind="stable")[: MOST_CLASSES - 1].tolist())
    rare = sorted(set(range(len(classes.labels))) - set(kept))
    rows = np.vstack([counts[kept], counts[rare].sum(axis=0)])
    folded = np.column_stack([rows[:, kept], rows[:, rare].sum(axis=1), rows[:, -1]])
    return [*(classes.labels[i] for i in kept), f"({len(rare)} rarer labels)"], folded


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _label_space(labels: Sequence[str], lines: int = 0) -> float:
    """Space for the widest label in inches, with `lines` more lines of text beside it."""
    return (
        0.25
        + INCH_A_COLUMN * max((_columns(line) for label in labels for line in label.split("\n")), default=0)
        + 0.18 * lines
    )


def _figure(
    width: float, height: float, *, left: float, bottom: float, top: float, right: float = 0.5
) -> tuple[Figure, Axes]:
    """Axes of `width` × `height` inches with margins around them."""
    from matplotlib.figure import Figure

    whole, tall = left + width + right, bottom + height + top
    figure = Figure(figsize=(whole, tall))
    axes = figure.add_axes((left / whole, bottom / tall, width / whole, height / tall))
    return figure, axes


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the viewer's fonts have the glyph
        yield


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path
