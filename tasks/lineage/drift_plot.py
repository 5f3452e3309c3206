"""The drift as a picture: a panel for each respect that moved most, its bins before and after side by side. SVG."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from tasks.files import replacing
from tasks.lineage.drift import Drift

MOST_PANELS = 8
MOST_BINS = 12
BEFORE, AFTER = "#9aa3ad", "#dd6b20"
STYLE = {
    "svg.fonttype": "none",  # text stays text: a browser shows Chinese labels with its own fonts
    "svg.hashsalt": "strop",
    "font.size": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
}


def draw_drift(drifts: Sequence[Drift], names: tuple[str, str], path: Path) -> None:
    """Writes the picture; equal numbers give equal bytes.

    Args:
        drifts: the furthest first.
        names: what the two versions are called.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    shown = drifts[:MOST_PANELS]
    with pyplot.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        rows = max(1, (len(shown) + 1) // 2)
        figure, axes = pyplot.subplots(rows, 2, figsize=(9, 2.3 * rows), squeeze=False)
        for place, panel in enumerate(axes.flat):
            if place >= len(shown):
                panel.axis("off")
                continue
            drift = shown[place]
            bins = _bins(drift)
            places = range(len(bins))
            panel.barh([p - 0.2 for p in places], [drift.before[b] for b in bins], 0.38, color=BEFORE, label=names[0])
            panel.barh([p + 0.2 for p in places], [drift.after[b] for b in bins], 0.38, color=AFTER, label=names[1])
            panel.set_yticks(list(places), [_short(each) for each in bins])
            panel.invert_yaxis()
            panel.set_title(
                f"{drift.family}: {drift.what}   PSI {drift.psi:.3f}   JS {drift.js:.3f}", loc="left", fontsize=9
            )
        axes.flat[0].legend(frameon=False, fontsize=8)
        figure.tight_layout()
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _bins(drift: Drift) -> list[str]:
    """The bins to show: lengths in order; of others, those that moved most."""
    bins = list(drift.before)
    if drift.what.endswith("length"):
        return sorted(bins, key=lambda each: int(each.split("-")[0]))[:MOST_BINS]
    return sorted(bins, key=lambda each: (-abs(drift.after[each] - drift.before[each]), each))[:MOST_BINS]


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:23]}…"
