"""Projects without our code, which these tests import: they start no process in the project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.project import set_up_project


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "project") -> Path:
        set_up_project(tmp_path / name, has_code=False)
        return tmp_path / name

    return make
