"""A plot of the drift (SVG): a panel for each of the most changed measures, with the bins before and after side by side.

Text stays text, so that a browser shows Chinese labels with its own fonts; equal numbers give equal bytes. The space for
labels is computed from their characters, not from the fonts of this machine.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lineage.drift import Drift
from tasks.runtime.files import replacing
from tasks.runtime.plot_style import STYLE
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 8
MOST_BINS = 12
LABEL_WIDTH = 24
"""Longest label, in columns: a Chinese character takes two."""
WIDTH, LEFT, PLOT = 5.2, 1.95, 2.9
"""Width of a panel, of the space for its labels, and of its bars, in inches."""
BAR, ABOVE, BELOW, LEGEND = 0.2, 0.45, 0.35, 0.35
"""Height of a bin, of the space above and below the bars, and of the legend, in inches."""
BEFORE, AFTER = "#9aa3ad", "#dd6b20"
INK = {"steady": "#2d3339", "minor": "#b7791f", "major": "#c53030"}


def draw_drift(drifts: Sequence[Drift], names: tuple[str, str], path: Path) -> None:
    """Writes the plot.

    Args:
        drifts: the largest first.
        names: the names of the two versions.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = [(drift, _bins(drift)) for drift in drifts[:MOST_PANELS]]
    lines = [shown[at : at + 2] for at in range(0, len(shown), 2)]
    heights = [ABOVE + BELOW + BAR * max(len(bins) for _, bins in line) for line in lines]
    with matplotlib.rc_context({**STYLE, "font.size": 8}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the viewer's fonts have the glyph
        tall = LEGEND + sum(heights)
        figure = Figure(figsize=(2 * WIDTH, tall), facecolor="white")
        top = tall - LEGEND
        for line, height in zip(lines, heights, strict=True):
            for column, (drift, bins) in enumerate(line):
                bars = BAR * len(bins)
                corner = (column * WIDTH + LEFT) / (2 * WIDTH), (top - ABOVE - bars) / tall
                _draw(figure.add_axes((*corner, PLOT / (2 * WIDTH), bars / tall)), drift, bins)
            top -= height
        keys = [Patch(color=BEFORE, label=_short(names[0])), Patch(color=AFTER, label=_short(names[1]))]
        figure.legend(handles=keys, loc="upper left", ncols=2, frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def _draw(axes: Axes, drift: Drift, bins: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    positions = range(len(bins))
    axes.barh([position - 0.2 for position in positions], [drift.before[name] for name in bins], 0.38, color=BEFORE)
    axes.barh([position + 0.2 for position in positions], [drift.after[name] for name in bins], 0.38, color=AFTER)
    axes.set_yticks(list(positions), [_short(name) for name in bins])
    axes.set_ylim(len(bins) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    title = f"{_short(drift.family)}: {drift.what}   PSI {drift.psi:.3f} ({drift.level})   JS {drift.js:.3f}"
    axes.set_title(title, loc="left", fontsize=9, color=INK[drift.level], x=-0.3)


def _bins(drift: Drift) -> list[str]:
    """The bins to show: lengths in order; otherwise the most changed bins, or the first ones if none changed."""
    bins = list(drift.before)
    if drift.what.endswith("length"):
        return sorted(bins, key=lambda name: int(name.split("-")[0]))[:MOST_BINS]
    return drift.moved(MOST_BINS) or bins[:MOST_BINS]


def _short(text: str) -> str:
    """The text on one line, in at most LABEL_WIDTH columns, with `$` escaped for matplotlib."""
    text = " ".join(printable(text).split())
    if _columns(text) > LABEL_WIDTH:
        while _columns(text) > LABEL_WIDTH - 1:
            text = text[:-1]
        text += "…"
    return text.replace("$", r"\$")


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
