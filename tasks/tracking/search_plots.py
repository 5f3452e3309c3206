"""Plots of a search (`finetune.search`): the losses of its trials and the importance of its settings.

Drawn from data/reports/training.json as SVG with text as text; equal numbers
give equal bytes. No stage draws them, because a training without a search has none.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.runtime.files import read_json
from tasks.runtime.plot_style import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRIED, BEST, FAINT = "#9aa3ad", "#dd6b20", "#e3e6ea"
LINE_INCHES = 0.3


def draw_last_search(folder: Path = paths.SEARCH_PLOTS) -> list[Path]:
    """Draws the search of the last training into `folder`, which then holds nothing else; without a search there is no folder."""
    shutil.rmtree(folder, ignore_errors=True)
    facts = read_json(paths.TRAINING_REPORT).get("search") if paths.TRAINING_REPORT.is_file() else None
    return draw_search(facts, folder) if facts else []


def draw_search(facts: dict[str, Any], folder: Path) -> list[Path]:
    """`history.svg`, and `importance.svg` where enough trials ended to measure it.

    Args:
        facts: the section `search` of data/reports/training.json.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        drawn = [_save(_history(facts["trials"]), folder / "history.svg")]
        if facts["importance"]:
            drawn.append(_save(_importance(facts["importance"]), folder / "importance.svg"))
    return drawn


def _history(trials: list[dict[str, Any]]) -> Any:
    """The validation loss of each trial, and of the best so far."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(6.4, 2.8, left=0.8, bottom=0.5)
    ended = [(trial["number"] + 1, trial["valid_loss"]) for trial in trials if trial["valid_loss"] is not None]
    stopped = [
        (trial["number"] + 1, min(trial["valid_losses"].values()))
        for trial in trials
        if trial["state"] == "stopped" and trial["valid_losses"]
    ]
    failed = [trial["number"] + 1 for trial in trials if trial["valid_loss"] is None and not trial["valid_losses"]]
    if ended:
        best = [(number, min(loss for earlier, loss in ended if earlier <= number)) for number, _ in ended]
        axes.step(*zip(*best, strict=True), where="post", color=BEST, linewidth=1.6, label="best so far")
        axes.plot(*zip(*ended, strict=True), "o", color=TRIED, markersize=5, label="ended")
    if stopped:
        axes.plot(*zip(*stopped, strict=True), "x", color=TRIED, markersize=6, label="stopped: its best until then")
    for index, number in enumerate(failed):
        label = "failed" if index == 0 else None
        axes.axvline(number, color=FAINT, linewidth=3, zorder=0, label=label)
    axes.set_xlabel("trial")
    axes.set_ylabel("validation loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.grid(True, color=FAINT)
    axes.set_axisbelow(True)
    axes.set_title("Search", loc="left", fontsize=11)
    if axes.has_data():
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.01, 0.98), ncols=4, fontsize=8)
    return figure


def _importance(shares: dict[str, float]) -> Any:
    """The importance of each setting, the highest on top."""
    names = sorted(shares, key=lambda name: shares[name])
    room = 0.3 + 0.085 * max(len(name) for name in names)
    figure, axes = _axes(4.4, LINE_INCHES * len(names) + 0.2, left=room, bottom=0.5)
    axes.barh(names, [shares[name] for name in names], color=TRIED, height=0.6)
    for index, name in enumerate(names):
        axes.text(shares[name] + 0.01, index, f"{shares[name]:.0%}", va="center", fontsize=8)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("share of what made validation losses differ")
    axes.tick_params(left=False)
    axes.set_title("What mattered", loc="left", fontsize=11)
    return figure


def _axes(width: float, height: float, *, left: float, bottom: float) -> tuple[Any, Axes]:
    """Axes of `width` × `height` inches, with room for labels around them."""
    from matplotlib.figure import Figure

    whole, tall = left + width + 0.3, bottom + height + 0.4
    figure = Figure(figsize=(whole, tall), facecolor="white")
    return figure, figure.add_axes((left / whole, bottom / tall, width / whole, height / tall))


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path
