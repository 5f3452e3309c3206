"""The MLflow traces of people's preferences that an erasure removed: no import may bring them back."""

from __future__ import annotations

import json
from collections.abc import Collection

from tasks import paths
from tasks.runtime.files import write_text

FILE = paths.JUDGES / "erased_traces.txt"
"""An id a line."""


def read_erased_traces() -> set[str]:
    return set(FILE.read_text(encoding="utf-8").split()) if FILE.is_file() else set()


def add_erased_traces(traces: Collection[str]) -> None:
    if new := set(traces) - (known := read_erased_traces()):
        write_text(FILE, "".join(f"{trace}\n" for trace in sorted(known | new)))


def trace_of(line: bytes) -> str:
    """The trace that a line of preferences was imported from; "" if it was not."""
    try:
        return str(json.loads(line).get("trace") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""
