"""A finding of `strop doctor`, and the one that needs no library."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

GB = 1e9
MIN_FREE_DISK = 5 * GB


@dataclass(frozen=True)
class Finding:
    name: str
    state: Literal["ok", "note", "wrong"]
    text: str
    fix: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "state": self.state, "told": self.text, "fix": self.fix}


def disk() -> Finding:
    """The free space in the project's folder."""
    usage = shutil.disk_usage(Path.cwd())
    text = f"{usage.free / GB:.1f} GB free of {usage.total / GB:.1f} GB"
    if usage.free < MIN_FREE_DISK:
        return Finding("disk", "wrong", text, "Free some: dvc gc -w -T, old folders in .strop/")
    return Finding("disk", "ok", text)
