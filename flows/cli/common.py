"""Shared by all commands: entering the project, JSON output, and consoles."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tasks.runtime.terminal_text import can_encode
from tasks.runtime.visible_text import printable_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tasks.config import PipelineConfig

_Text = TypeVar("_Text", str, list[str], None)


def as_text(value: _Text) -> _Text:
    """A command line argument that the terminal's encoding cannot decode: decoded as UTF-8, invalid bytes as U+FFFD."""
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return os.fsencode(value).decode("utf-8", "replace") if value and _UNDECODED.search(value) else value


_UNDECODED = re.compile("[\udc80-\udcff]")

VERSION = "A version (3 or v3), or base, champion, challenger, or candidate: the model of the last run."
"""Help of an argument."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Row = Annotated[str, typer.Argument(callback=as_text, help="The row's id, or its first characters.")]
Why = Annotated[str, typer.Option(callback=as_text, help="The reason, for the record.")]


def enter_project() -> PipelineConfig:
    """Changes to the root of the project that contains the working directory, and reads its params.yaml.

    Raises:
        ConfigError: there is no project, or its params.yaml is invalid.
    """
    from tasks.config import load_config

    enter_root()
    return load_config()


def enter_root() -> Path:
    """As enter_project, without reading the settings."""
    from flows.runtime.environment import prepare_environment
    from tasks.paths import find_root

    root = find_root()
    os.chdir(root)
    prepare_environment(root)
    return root


_START_TIME: list[float] = []


def begin(moment: float) -> None:
    """Records the start time of the command."""
    _START_TIME[:] = [moment]


def began() -> float:
    """The start time of the command (seconds since 1970), under load seconds before its own code runs."""
    return _START_TIME[0] if _START_TIME else time.time()


def print_json(value: Any) -> None:
    """Prints JSON; characters that the terminal cannot show, or would interpret, are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    if not can_encode(text, sys.stdout.encoding):
        text = json.dumps(value, indent=2, default=str)
    print(printable_json(text))


def console() -> Console:
    """A console with the terminal's width; without a terminal, wide enough not to break lines that a program may parse."""
    from tasks.runtime.console import VisibleConsole

    console_ = VisibleConsole(highlight=False)
    if not console_.is_terminal and "COLUMNS" not in os.environ:
        console_.width = 140
    return console_


UNITS = ("bytes", "kB", "MB", "GB", "TB")


def readable_size(size: float) -> str:
    """`3.2 GB`: powers of 1000."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {UNITS[-1]}"


def print_grid(rows: Iterable[tuple[RenderableType, ...]]) -> None:
    """Prints rows in columns, without a header."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    if table.row_count:
        console().print(table)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirects standard output of this process and its children to standard error: for code that prints, at any log level."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def unwrap_help(app: typer.Typer) -> None:
    """Joins the lines of each paragraph of the commands' docstrings: `--help` breaks them at the width of the terminal."""
    for command in app.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = command.help or "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            unwrap_help(group.typer_instance)
