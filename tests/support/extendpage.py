"""The code of docs/extend.md, which tests run as it is printed there."""

from __future__ import annotations

import re

from support.project import REPOSITORY


def code_of(section: str) -> str:
    """The first Python block of a section."""
    text = (REPOSITORY / "docs/extend.md").read_text(encoding="utf-8").split(f"\n## {section}\n")[1]
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match[1]
