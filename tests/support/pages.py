"""The commands of a page of the docs."""

from __future__ import annotations

import re
from pathlib import Path


def commands_of(page: Path, start: str = "") -> list[str]:
    """The commands in a page's `sh` blocks that begin with `start`, without their comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(start) and line]
