"""Parses DVC's YAML files (dvc.yaml, dvc.lock, *.dvc). A file that cannot be parsed raises ValueError with a one-line reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import is_conflict


def parse_yaml(content: bytes) -> dict[str, Any]:
    """The mapping in a file.

    Raises:
        ValueError: the file has no mapping, or has an unresolved merge conflict.
    """
    if is_conflict(content):
        raise ValueError("unresolved merge conflict")
    if not content.strip():
        raise ValueError("empty")
    try:
        document = load_yaml(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(" ".join(str(error).removeprefix("not readable as YAML: ").split())[:200]) from error
    if not isinstance(document, dict):
        raise ValueError("not a mapping")
    return document


def replace_dependencies(
    text: str, new_lines: Callable[[str], Iterable[str]], is_replaced: Callable[[str], bool]
) -> str:
    """dvc.yaml with other lines among the dependencies of its stages; all other lines, and comments, stay as they are.

    Args:
        new_lines: from the name of a stage to the lines to append to its `deps`.
        is_replaced: whether a line is removed first.
    """
    lines: list[str] = []
    stage, is_among_deps = "", False
    for line in [*text.splitlines(), ""]:
        if line.startswith("    cmd: python -m tasks "):
            stage = line.rpartition(" ")[2]
        if is_among_deps and not line.startswith("      - "):
            lines += new_lines(stage)
            is_among_deps = False
        is_among_deps = is_among_deps or line == "    deps:"
        if not is_replaced(line):
            lines.append(line)
    return "\n".join(lines[:-1]) + "\n"
