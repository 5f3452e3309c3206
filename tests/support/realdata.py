"""Where the real data sets are: `../shared/data` beside the repository, or the folder that STROP_SHARED_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.project import REPOSITORY


def real(name: str) -> Path:
    """A real file or folder; the test skips where it is not there."""
    folder = Path(os.environ.get("STROP_SHARED_DATA") or REPOSITORY / "../shared/data").resolve()
    if not (folder / name).exists():
        pytest.skip(f"the real data are not here: {name} in {folder} (STROP_SHARED_DATA names another folder)")
    return folder / name
