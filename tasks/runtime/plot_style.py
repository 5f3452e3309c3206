"""The fonts of our pictures: text stays text in the SVG, so that whatever shows it draws Chinese too."""

FONTS = [
    "DejaVu Sans",  # comes with matplotlib, so sizes are the same everywhere; a browser looks for Chinese further on
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "sans-serif",
]
