"""Reads the curated and the rendered rows.

from tasks.dataset import read_dataset
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "read_dataset":
        from tasks.dataset.read import read_dataset

        return read_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
