"""Plots of numbers as inline SVG. They have no text of rows; colours are those of the page's style sheet. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

WIDTH, ROW_HEIGHT, PAD = 240, 14, 8
CURVE_WIDTH, CURVE_HEIGHT, CURVE_LEFT, CURVE_BOTTOM = 420, 120, 52, 18

Interval = Sequence[float]

DIFFERENCES, SHARES = ("not_worse", "no_regression", "slices", "better"), ("floor", "degenerate", "personal_data")
"""Checks by the scale of their interval; that of a plugin's check is not known, so it has no plot."""


def scale_of(checks: Sequence[Mapping[str, Any]]) -> float:
    """The largest difference of any check's interval or bound: all checks of differences share one axis."""
    differences = [check for check in checks if is_difference(check)]
    ends = [abs(end) for check in differences for end in (*check["interval"], *_bounds(check))]
    return float(max([*ends, 0.05]) * 1.08)


def is_difference(check: Mapping[str, Any]) -> bool:
    """Whether the check's interval is of a difference of scores, not of a score or a share."""
    return check["interval"] is not None and check["name"].split("/")[0] in DIFFERENCES


def _is_share(check: Mapping[str, Any]) -> bool:
    """Whether the interval is of a number from 0 to 1; a limit may be of any other."""
    name = check["name"].split("/")[0]
    return name in SHARES or (name == "limits" and all(0 <= end <= 1 for end in (*check["interval"], check["bound"])))


def _bounds(check: Mapping[str, Any]) -> list[float]:
    """The bound and the number, if they are on the interval's scale: a p-value is not."""
    return [] if check["name"] == "better" or check["number"] is None else [check["number"], check["bound"]]


def check_plot(check: Mapping[str, Any], scale: float) -> Markup:
    """The interval of a check, with its number (dot) and its bound (dashed line)."""
    interval = check["interval"]
    if interval is None or not (is_difference(check) or _is_share(check)):
        return Markup("")
    start, end = (-scale, scale) if is_difference(check) else (0.0, 1.0)
    x = partial(_x, low=start, high=end)
    low, high = interval
    state = {True: "good", False: "bad", None: "none"}[check["passed"]]
    parts = [f'<line class="axis" x1="{PAD}" x2="{WIDTH - PAD}" y1="20" y2="20"/>']
    if is_difference(check):
        parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="4" y2="24"/>')
    values = _bounds(check)
    if values:
        parts.append(f'<line class="bound" x1="{x(values[1])}" x2="{x(values[1])}" y1="2" y2="24"/>')
    parts.append(f'<line class="interval {state}" x1="{x(low)}" x2="{x(high)}" y1="13" y2="13"/>')
    if values:
        parts.append(f'<circle class="dot {state}" cx="{x(values[0])}" cy="13" r="4"/>')
    label = f"from {low:+.3f} to {high:+.3f}"
    label += f", measured {values[0]:+.3f}, bound {values[1]:+.3f}" if values else ""
    return _svg(WIDTH, 26, "".join(parts), label)


def _x(value: float, low: float = 0.0, high: float = 1.0) -> float:
    """The position of a value on an axis from `low` to `high`; a value outside is at its end."""
    return round(PAD + (WIDTH - 2 * PAD) * (min(max(value, low), high) - low) / (high - low), 1)


def score_plot(scores: Mapping[str, tuple[float, Interval | None]]) -> Markup:
    """One line per model on the scale from 0 to 1: its score (dot) and its interval."""
    height = ROW_HEIGHT * len(scores) + 4
    ticks = [_x(tick) for tick in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts = [f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{height}"/>' for x in ticks]
    for number, (role, (score, interval)) in enumerate(scores.items()):
        y = ROW_HEIGHT * number + ROW_HEIGHT / 2 + 2
        if interval:
            low, high = map(_x, interval)
            parts.append(f'<line class="interval {role}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot {role}" cx="{_x(score)}" cy="{y}" r="3.5"/>')
    return _svg(WIDTH, height, "".join(parts), ", ".join(f"{role} {score:.3f}" for role, (score, _) in scores.items()))


def curve_plot(series: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """Lines over training steps, with the ends of both axes labelled."""
    points = [point for values in series.values() for point in values]
    right = max((step for step, _ in points), default=1.0) or 1.0
    top = max((value for _, value in points), default=1.0)
    bottom = min(0.0, min((value for _, value in points), default=0.0))
    top = top if top > bottom else bottom + 1.0
    inner_width, inner_height = CURVE_WIDTH - CURVE_LEFT - PAD, CURVE_HEIGHT - CURVE_BOTTOM - PAD

    def at(step: float, value: float) -> str:
        x = CURVE_LEFT + inner_width * step / right
        return f"{x:.1f},{PAD + inner_height * (top - value) / (top - bottom):.1f}"

    base = PAD + inner_height
    parts = [
        f'<line class="axis" x1="{CURVE_LEFT}" x2="{CURVE_WIDTH - PAD}" y1="{base}" y2="{base}"/>',
        f'<text x="{CURVE_LEFT - 6}" y="{PAD + 8}" text-anchor="end">{_short(top)}</text>',
        f'<text x="{CURVE_LEFT - 6}" y="{base}" text-anchor="end">{_short(bottom)}</text>',
        f'<text x="{CURVE_LEFT}" y="{CURVE_HEIGHT - 4}">0</text>',
        f'<text x="{CURVE_WIDTH - PAD}" y="{CURVE_HEIGHT - 4}" text-anchor="end">step {right:g}</text>',
    ]
    for name, values in series.items():
        line = " ".join(at(step, value) for step, value in values)
        parts.append(f'<polyline class="curve {name}" points="{line}"/>')
        if name == "validation":
            dots = (point.split(",") for point in line.split())
            parts += [f'<circle class="curve-dot" cx="{x}" cy="{y}" r="3"/>' for x, y in dots]
    ends = ", ".join(f"{name} ends at {values[-1][1]:.4g}" for name, values in series.items() if values)
    return _svg(CURVE_WIDTH, CURVE_HEIGHT, "".join(parts), ends)


def _short(value: float) -> str:
    return f"{value:.2g}" if value and (abs(value) < 1e-3 or abs(value) >= 1e4) else f"{value:.3g}"


def _svg(width: int, height: float, content: str, label: str) -> Markup:
    """The element; `content` and `label` are made of numbers and of Strop's own words."""
    assert not math.isnan(height)
    view = f'viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}"'
    return Markup(f'<svg {view} role="img" aria-label="{{}}">{content}</svg>').format(label)
