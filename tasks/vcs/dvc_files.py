"""Parses DVC's YAML files (dvc.yaml, dvc.lock, *.dvc). A file that cannot be parsed raises ValueError with a one-line reason."""

from __future__ import annotations

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
