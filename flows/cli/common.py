"""What commands share: the project they work in, JSON, and the consoles they write on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tasks.runtime.terminal_text import can_encode
from tasks.runtime.visible_text import shown_in_json

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.config import PipelineConfig

_Text = TypeVar("_Text", str, list[str], None)


def as_text(value: _Text) -> _Text:
    """What was typed, where the terminal's encoding cannot read its bytes: as UTF-8, and U+FFFD for what is none."""
    if isinstance(value, list):
        return [as_text(each) for each in value]
    return os.fsencode(value).decode("utf-8", "replace") if value and _UNDECODED.search(value) else value


_UNDECODED = re.compile("[\udc80-\udcff]")

Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Why = Annotated[str, typer.Option("--why", callback=as_text, help="The reason, for the record.")]


def enter_project() -> PipelineConfig:
    """Goes to the root of the project around the working directory, and reads its params.yaml.

    Raises:
        ConfigError: there is no project, or its params.yaml is wrong.
    """
    from tasks.config import load_config

    enter_root()
    return load_config()


def enter_root() -> Path:
    """As enter_project, for commands that need no settings."""
    from flows.runtime.environment import prepare_environment
    from tasks.paths import find_root

    root = find_root()
    os.chdir(root)
    prepare_environment(root)
    return root


_BEGAN: list[float] = []


def begin(moment: float) -> None:
    """Notes when the command began."""
    _BEGAN[:] = [moment]


def began() -> float:
    """When the command began (seconds since 1970), which under load is seconds before its own code runs."""
    return _BEGAN[0] if _BEGAN else time.time()


def print_json(value: Any) -> None:
    """JSON that says the same on every terminal: what one cannot carry, or would act on, is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    if not can_encode(text, sys.stdout.encoding):
        text = json.dumps(value, indent=2, default=str)
    print(shown_in_json(text))


def console(*, on_stderr: bool = False) -> Console:
    """A terminal's width where there is one; elsewhere wide enough that no line is broken that a program may read."""
    from flows.runtime.console import VisibleConsole

    made = VisibleConsole(stderr=on_stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 140
    return made


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends what this process and its children write to standard output to standard error instead."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
