"""A project whose registry is a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import postgres
from support.project import params, write_params


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Names a database in the params.yaml of a project."""
    postgres.log_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()

    def name(database: str, **settings: Any) -> None:
        uri = settings.pop("tracking_uri", postgres.address(postgres.port(), database))
        write_params(tmp_path, params("base", [], register={"model_name": "tiny", "tracking_uri": uri, **settings}))

    return name
