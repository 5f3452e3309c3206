"""A rich console that escapes texts of rows, files and models (no control sequence, markup or link in them is active), and the
style of tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Column, Table

from tasks.runtime.visible_text import printable


class VisibleConsole(Console):
    """Escapes all output after rich has styled it, so that no caller can forget it."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not segment.text:
                yield segment
                continue
            style = segment.style
            if style is not None and style.link:
                style = style.update_link(None)
            yield Segment(printable(segment.text), style)


def table_of(*columns: Column | str) -> Table:
    """A table with a dim header."""
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
