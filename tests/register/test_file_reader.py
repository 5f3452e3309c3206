"""A registry file is read without MLflow only if it has the tables that are read; everything else is MLflow's to open or refuse."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import mlflowserver

from tasks.errors import RegistryError
from tasks.tracking.file_reader import FileReader, is_readable
from tasks.tracking.readable import open_for_reading
from tasks.tracking.registry import Registry


def never() -> Registry:
    raise AssertionError("opened with MLflow")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(mlflowserver.empty_store(), tmp_path / "registry.db"))


def reader_of(path: Path) -> FileReader:
    return FileReader(f"sqlite:///{path}", "tiny", never, path)


def test_an_empty_registry_has_no_version_and_the_error_says_so(file: Path) -> None:
    reader = reader_of(file)
    assert (reader.anchors(), reader.alias("champion"), reader.find_run("strop.receipt", "x")) == ({}, None, None)
    with pytest.raises(RegistryError, match="has no version 1 of tiny; it has none"):
        reader.version(1)
    with pytest.raises(RegistryError, match="has no run 12"):
        reader.run_data("12")


def test_a_file_that_is_missing_damaged_or_of_another_schema_is_left_to_mlflow(file: Path, tmp_path: Path) -> None:
    assert is_readable(file)
    assert not is_readable(tmp_path / "missing.db")
    (tmp_path / "damaged.db").write_bytes(b"no database" * 100)
    assert not is_readable(tmp_path / "damaged.db")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("ALTER TABLE model_versions RENAME COLUMN storage_location TO place")
    assert not is_readable(file)


def test_a_file_whose_project_may_have_been_moved_is_left_to_mlflow(file: Path) -> None:
    """Its absolute locations may be those of the former place, where the files may still be."""
    insert = "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (7, 'tiny', ?, 'active')"
    for name in ("params.yaml", "dvc.yaml"):
        (file.parent / name).touch()
    for location, is_read in (("mlflow/artifacts", True), ("/elsewhere/mlflow/artifacts", False)):
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("DELETE FROM experiments")
            database.execute(insert, (location,))
        assert is_readable(file) is is_read


def test_a_file_that_breaks_later_is_one_error_line(file: Path) -> None:
    reader = reader_of(file)
    file.write_bytes(b"no database" * 100)
    with pytest.raises(RegistryError, match="the registry's file is damaged") as caught:
        reader.alias("champion")
    assert "\n" not in str(caught.value)


def test_a_missing_registry_is_not_created_by_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace
    from typing import Any

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / "mlflow/mlflow.db"
    config: Any = SimpleNamespace(register_=SimpleNamespace(model_name="tiny", tracking_uri=f"sqlite:///{path}"))
    with pytest.raises(RegistryError, match=r"the registry does not exist.*strop registry rebuild"):
        open_for_reading(config)
    assert not path.exists()
