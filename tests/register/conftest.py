"""Projects whose candidate is judged, or whose model serves."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import toyworld


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toyworld.stand_in("judged", tmp_path, monkeypatch)


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toyworld.stand_in("serving", tmp_path, monkeypatch)
