"""The registry as a PostgreSQL database: its tables are created once, and SQL reads what MLflow reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import postgres
from support.opened_at_once import open_in_four_processes

from tasks.config import load_config
from tasks.errors import RegistryError
from tasks.model_store.approvals import LONGEST_PAGE, on_page, record_approvals
from tasks.register.version_page import describe
from tasks.tracking.access import require_registry
from tasks.tracking.glance import glance
from tasks.tracking.postgres import with_driver
from tasks.tracking.readable import open_for_reading
from tasks.tracking.registry import Registry, open_registry, tracking_uri
from tasks.tracking.sqlite_setup import newest_schema


def some_version(registry: Registry) -> int:
    model = registry.client.create_logged_model(registry.experiment_id, name="some")
    return registry.create_version(str(model.model_uri), registry.create_run("x", {}), {})


def test_four_processes_may_open_an_empty_database_at_once(use: Callable[..., None]) -> None:
    use(postgres.empty_database())
    assert glance(load_config()).versions == frozenset()
    require_registry(load_config())
    with pytest.raises(RegistryError, match="has no tables of MLflow"):  # the looks before have created none
        open_for_reading(load_config())
    open_in_four_processes()
    assert some_version(open_registry(load_config())) == 1
    assert glance(load_config()).versions == {1}


def test_the_newest_schema_is_that_of_mlflow() -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert newest_schema() == _get_latest_schema_revision()


def test_what_is_read_by_sql_is_what_mlflow_reads(use: Callable[..., None]) -> None:
    """A database may sort letters by its language, and compares them exactly."""
    use(postgres.database())
    registry = open_registry(load_config())
    number = some_version(registry)
    registry.describe_version(number, "好 😀")
    registry.set_version_tags(number, {"strop.why": "x" * 20_000})
    for alias in ("b", "A", "champion", "a"):
        registry.set_alias(alias, number)
    reader = open_for_reading(load_config())
    assert not isinstance(reader, Registry)
    assert reader.versions() == registry.versions()
    assert reader.version(number).aliases == ["A", "a", "b", "champion"]
    assert (reader.alias("champion"), reader.alias("Champion")) == (number, None)
    assert glance(load_config()).alias == number
    assert reader.experiment_id == registry.experiment_id


def test_a_page_that_does_not_fit_beside_what_people_wrote_is_left_out_with_a_warning(
    use: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    use(postgres.database())
    registry = open_registry(load_config())
    number = some_version(registry)
    registry.describe_version(number, text := "人" * 3000)
    describe(registry, number, "p" * 4000)
    assert registry.version(number).description == text
    assert f"v{number} has no room for its page" in caplog.text
    registry.describe_version(number, "人" * 30)
    describe(registry, number, "p" * 4000)
    assert "p" * 4000 in registry.version(number).description
    with pytest.raises(RegistryError):
        describe(registry, number + 1, "p" * 6000)


def test_approvals_that_the_page_has_no_room_for_are_counted(use: Callable[..., None]) -> None:
    use(postgres.database())
    registry = open_registry(load_config())
    number = some_version(registry)
    registry.describe_version(number, page := "页" * 4000)
    approvals = [f"promoted by 李雷: {n} {'因' * 400}" for n in range(9)]
    record_approvals(registry, registry.version(number), approvals)
    description = registry.version(number).description
    assert description == on_page(page, approvals)
    assert len(description) <= LONGEST_PAGE
    assert description.startswith(page)
    assert "… 7 earlier ones" in description
    assert f"promoted by 李雷: 8 {'因' * 400}" in description
    assert on_page("x" * LONGEST_PAGE, approvals) == "x" * LONGEST_PAGE


def test_the_files_are_in_the_project_or_where_the_setting_says(use: Callable[..., None], tmp_path: Path) -> None:
    use(postgres.database())
    registry = open_registry(load_config())
    location = registry.client.get_experiment(registry.experiment_id).artifact_location
    assert location == (tmp_path / "mlflow/artifacts").as_uri()
    use(shared := postgres.database(), artifacts=f"{tmp_path}/共享/")
    run_id = open_registry(load_config()).create_run("x", {})
    assert open_registry(load_config()).run_data(run_id).params == {}
    use(shared)
    open_registry(load_config())
    use(shared, artifacts="s3://bucket/strop")  # which is not looked at
    for look in (open_registry, require_registry):
        with pytest.raises(RegistryError, match=r"are at file:.* and register\.artifacts is s3://bucket/strop"):
            look(load_config())
    (tmp_path / "共享").rename(tmp_path / "elsewhere")
    use(shared)
    for look in (open_registry, require_registry):
        with pytest.raises(RegistryError, match="共享, which this machine does not have"):
            look(load_config())


def test_an_address_without_a_driver_means_psycopg_3(use: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    use("any")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://li:pw@host/postgresql")
    assert tracking_uri(load_config()) == "postgresql+psycopg://li:pw@host/postgresql"
    assert with_driver("postgresql+psycopg2://host/x") == "postgresql+psycopg2://host/x"
