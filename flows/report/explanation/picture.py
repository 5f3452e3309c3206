"""The picture of an explanation: a bar for each of the parts with the largest shares, as SVG. Pure.

Text stays text, so that a viewer shows Chinese with its own fonts. It is a file of its own, and part of the page.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from markupsafe import Markup

from flows.report.run_report.page import clean
from tasks.explain.explanation import Attribution, Explanation, Span
from tasks.runtime.plot_style import FONTS

BARS, LINE = 15, 22
TEXT, BAR, NUMBER = 250, 300, 70
"""Widths: the part's text, its bar (to both sides of zero), its number."""
COLUMNS = 30
"""Widest text of a part, in columns of a terminal; a Chinese character has two."""
STYLE = (
    "svg { color-scheme: light dark; } text { font: 13px FONTS; fill: #20262c; } .small { fill: #5c6670; font-size: 12px; }"
    " .page { fill: #ffffff; } .for { fill: #3f6fb5; } .against { fill: #c75b12; } .zero { stroke: #5c6670; }"
    " @media (prefers-color-scheme: dark) { text { fill: #e6e9ec; } .small { fill: #9aa5b0; } .page { fill: #14181c; }"
    " .for { fill: #7aa7ea; } .against { fill: #f0924a; } .zero { stroke: #9aa5b0; } }"
)


def picture(explanation: Explanation) -> str:
    """The bars of all attributions, one below the other, as a file."""
    parts = [Markup('<text x="10" y="22">{}</text>').format(clean(f"{explanation.model} · {explanation.subject}"))]
    y = 34.0
    for attribution in explanation.attributions:
        title = shortened(clean(attribution.title), 2 * COLUMNS)
        parts.append(Markup('<text class="small" x="10" y="{}">{}</text>').format(y + 14, title))
        parts.append(Markup('<g transform="translate(0 {})">{}</g>').format(y + 22, _bars(attribution)))
        y += 34 + _height(attribution)
    fonts = ", ".join(f"'{font}'" if " " in font else font for font in FONTS)
    style = Markup("<style>{}</style>").format(Markup(STYLE.replace("FONTS", fonts)))
    width = TEXT + BAR + NUMBER + 20
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1:g}" width="{0}" height="{1:g}">{2}'
            '<rect class="page" width="100%" height="100%"/>{3}</svg>\n'
        ).format(width, y, style, Markup("").join(parts))
    )


def bars(attribution: Attribution) -> Markup:
    """The bars of one attribution, for the page."""
    width = TEXT + BAR + NUMBER + 20
    return Markup('<svg class="bars" viewBox="0 0 {0} {1:g}" width="{0}" height="{1:g}">{2}</svg>').format(
        width, _height(attribution), _bars(attribution)
    )


def shortened(text: str, columns: int) -> str:
    """The text on one line, in at most so many columns."""
    line, used = " ".join(text.split()), 0
    for index, character in enumerate(line):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            return line[:index].rstrip() + "…"
    return line


def _height(attribution: Attribution) -> float:
    return LINE * max(len(attribution.top(BARS)), 1) + 4


def _bars(attribution: Attribution) -> Markup:
    spans = attribution.top(BARS)
    values = [0.0, *(span.value or 0.0 for span in spans)]
    scale = BAR / ((max(values) - min(values)) or 1.0)
    zero = round(TEXT - min(values) * scale, 1)
    lines = list(_lines(spans, zero, scale)) or [
        Markup('<text class="small" x="10" y="15">no part changes the output</text>')
    ]
    axis = Markup('<line class="zero" x1="{0:g}" x2="{0:g}" y1="0" y2="{1:g}"/>').format(zero, LINE * len(lines))
    return Markup("").join([axis, *lines])


def _lines(spans: list[Span], zero: float, scale: float) -> Iterator[Markup]:
    for number, span in enumerate(spans):
        value, y = span.value or 0.0, LINE * number
        length = round(abs(value) * scale, 1)
        x = zero - (length if value < 0 else 0)
        yield Markup(
            '<text x="{0}" y="{1}" text-anchor="end">{2}</text><rect class="{3}" x="{4:g}" y="{5}" width="{6:g}"'
            ' height="14" rx="2"/>'
            '<text class="small" x="{7}" y="{1}">{8:+.3f}</text>'
        ).format(
            TEXT - 10, y + 15, shortened(clean(span.text), COLUMNS), "for" if value > 0 else "against",
            x, y + 4, length, TEXT + BAR + 8, value,
        )  # fmt: skip
