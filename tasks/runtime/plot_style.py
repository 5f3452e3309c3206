"""Fonts and style of the plots. SVG files keep text as text, so that a viewer can also render Chinese."""

FONTS = [
    "DejaVu Sans",  # part of matplotlib, so sizes are the same everywhere; a browser uses a later font for Chinese
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "sans-serif",
]
STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": FONTS,
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "strop",
}
"""For `matplotlib.rc_context`: equal numbers give equal bytes."""
