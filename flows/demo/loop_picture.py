"""The story of the loop as a picture: the share of right answers, minute by minute, for each version (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.demo.served_counts import Minute, by_minute, by_version
from flows.demo.traffic import Exchange
from tasks.runtime.plot_style import STYLE

COLOURS = ("#9aa3ad", "#dd6b20", "#2b6cb0", "#38a169")
"""Of the first version, the second, ..."""


def draw_loop(exchanges: Sequence[Exchange], learned: Sequence[str], file: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    minutes = by_minute(exchanges, learned)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.0), layout="constrained")
        axes = figure.subplots()
        for index, each in enumerate(row for row in by_version(exchanges, learned) if row.version):
            colour = COLOURS[index % len(COLOURS)]
            own = [minute for minute in minutes if minute.version == each.version]
            name = f"version {each.version}"
            axes.plot(*_points(own, is_new=True), "o-", color=colour, label=f"{name}, new sections")
            axes.plot(*_points(own, is_new=False), "o:", color=colour, markersize=3, label=f"{name}, learned sections")
            axes.axvspan(each.first / 60, each.last / 60, color=colour, alpha=0.08, linewidth=0)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("minutes since the first request; shaded: the version answers")
        axes.set_ylabel("right answers")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(file, format="svg", metadata={"Date": None})


def _points(minutes: Sequence[Minute], *, is_new: bool) -> tuple[list[float], list[float]]:
    pairs = [(each.minute + 0.5, (each.new if is_new else each.learned).share) for each in minutes]
    drawn = [(minute, share) for minute, share in pairs if share is not None]
    return [minute for minute, _ in drawn], [share for _, share in drawn]
