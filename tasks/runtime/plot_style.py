"""Fonts of the plots. SVG files keep text as text, so that a viewer can also render Chinese."""

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
