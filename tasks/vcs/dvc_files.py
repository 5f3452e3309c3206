"""Reading YAML of DVC's (dvc.yaml, dvc.lock, *.dvc): what is no such file is a ValueError with its reason in one line."""

from __future__ import annotations

from typing import Any

from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import is_conflict


def parse_yaml(content: bytes) -> dict[str, Any]:
    """The mapping that a file holds.

    Raises:
        ValueError: it holds none, or an unresolved conflict of git.
    """
    if is_conflict(content):
        raise ValueError("an unresolved conflict of git")
    if not content.strip():
        raise ValueError("empty")
    try:
        document = load_yaml(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(" ".join(str(error).removeprefix("not readable as YAML: ").split())[:200]) from error
    if not isinstance(document, dict):
        raise ValueError("no mapping")
    return document
