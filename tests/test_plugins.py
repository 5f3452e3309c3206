"""Plugins: modules of the user, named in params.yaml, that add entries to the tables of named parts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.project import params, write_params

from tasks.config import load_config
from tasks.errors import ConfigError
from tasks.runtime.import_closure import code_digest
from tasks.runtime.plugin_table import PluginTable
from tasks.runtime.plugins import keeping_plugins, load_plugins, loaded_plugins, unload_plugins

COLOURS: PluginTable[int] = PluginTable("colour", {"red": 1}, stages=("evaluate", "gate"))
ADDS = "from test_plugins import COLOURS\nfrom my_package.numbers import ORANGE\nCOLOURS.add('orange', ORANGE)\n"


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    yield
    unload_plugins()


def write_package(root: Path, number: int = 2, adds: str = ADDS) -> Path:
    package = root / "my_package"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "numbers.py").write_text(f"ORANGE = {number}\n")
    (package / "strop.py").write_text(adds)
    (package / "unrelated.py").write_text("raise AssertionError\n")
    return root


def load(root: Path, *names: str, **sections: object) -> None:
    write_params(root, {**params("x", []), "plugins": list(names), **sections})
    load_config(root / "params.yaml")


def refusal(root: Path, *names: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, *names)
    return str(caught.value)


def test_a_plugin_adds_an_entry_to_a_table_before_the_settings_are_checked(tmp_path: Path) -> None:
    load(write_package(tmp_path), "my_package.strop")
    assert dict(COLOURS) == {"red": 1, "orange": 2}
    (plugin,) = loaded_plugins()
    assert [str(file) for file in plugin.files] == [
        "my_package/__init__.py",
        "my_package/numbers.py",
        "my_package/strop.py",
    ]
    assert plugin.is_local


def test_loading_twice_changes_nothing_and_an_edit_loads_the_new_code(tmp_path: Path) -> None:
    load(write_package(tmp_path), "my_package.strop")
    module = sys.modules["my_package.strop"]
    load(tmp_path, "my_package.strop")
    assert sys.modules["my_package.strop"] is module
    write_package(tmp_path, number=300)
    load(tmp_path, "my_package.strop")
    assert COLOURS["orange"] == 300


def test_two_projects_in_one_process_have_their_own_plugins(tmp_path: Path) -> None:
    first, second = write_package(tmp_path / "first", 10), write_package(tmp_path / "second", 20)
    path = list(sys.path)
    load(first, "my_package.strop")
    assert COLOURS["orange"] == 10
    with keeping_plugins():
        load(second, "my_package.strop")
        assert COLOURS["orange"] == 20
    assert COLOURS["orange"] == 10
    load(second)
    assert dict(COLOURS) == {"red": 1}
    assert sys.path == path


def test_a_missing_module_is_reported_with_the_line_of_the_setting(tmp_path: Path) -> None:
    message = refusal(tmp_path, "json", "my_package.stop")
    line = 1 + (tmp_path / "params.yaml").read_text(encoding="utf-8").splitlines().index('    "my_package.stop"')
    assert message == (
        f"{tmp_path}/params.yaml: 1 error:\n"
        f"  line {line}: `plugins`: my_package.stop is not found: there is no my_package/stop.py in the project, and no such"
        " module in the environment\n"
        "Fix the module, or remove it from `plugins`"
    )


def test_other_errors_are_reported_with_that_of_a_plugin_except_names_that_it_may_define(tmp_path: Path) -> None:
    finetune = params("x", [])["finetune"] | {"objective": "anchored", "epochs": -1}
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "my_package.stop", finetune=finetune)
    message = str(caught.value)
    assert "2 errors:" in message
    assert "my_package.stop is not found" in message
    assert "`finetune.epochs` is -1" in message
    assert "objective" not in message


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("x = 1\nx.y\n", "my_package/strop.py line 2: AttributeError: 'int' object has no attribute 'y'"),
        ("x = (\n", "my_package/strop.py line 1: SyntaxError: '(' was never closed"),
        ("import no_such_thing\n", "my_package/strop.py line 1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise SystemExit(3)\n", "my_package/strop.py line 1: SystemExit: 3"),
        (
            f"{ADDS}COLOURS.add('red', 3)\n",
            "my_package/strop.py line 4: the colour `red` exists already. Choose another name",
        ),
    ],
)
def test_a_plugin_that_fails_is_reported_with_the_line_of_the_cause(code: str, cause: str, tmp_path: Path) -> None:
    message = refusal(write_package(tmp_path, adds=code), "my_package.strop")
    assert f"`plugins`: my_package.strop cannot be imported: {cause}" in message
    assert dict(COLOURS) == {"red": 1}
    assert loaded_plugins() == ()


def test_a_name_that_is_no_module_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    assert '`plugins.0` is "my-package.py", but should be' in refusal(tmp_path, "my-package.py").replace(
        "String s", "s"
    )


def test_a_plugin_of_the_environment_is_found_and_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = write_package(tmp_path / "lib/site-packages")
    monkeypatch.syspath_prepend(str(installed))
    project = tmp_path / "project"
    project.mkdir()
    load(project, "my_package.strop")
    (plugin,) = loaded_plugins()
    assert not plugin.is_local
    write_package(installed, number=3)
    load(project, "my_package.strop")
    assert loaded_plugins()[0].digest != plugin.digest
    assert COLOURS["orange"] == 3


def test_a_package_as_plugin_is_digested_with_all_its_files(tmp_path: Path) -> None:
    (write_package(tmp_path) / "my_package/unrelated.py").write_text("")
    (tmp_path / "my_package/words.txt").write_text("one\n")
    load(tmp_path, "my_package")
    (before,) = loaded_plugins()
    (tmp_path / "my_package/words.txt").write_text("two\n")
    load(tmp_path, "my_package")
    assert loaded_plugins()[0].digest != before.digest
    assert [path.name for path in before.paths()] == ["my_package"]


def test_code_digests_change_with_a_plugin_only_for_the_stages_that_read_its_tables(tmp_path: Path) -> None:
    starts = {stage: f"tasks/{stage}" for stage in ("finetune", "evaluate")}
    without = {stage: code_digest(start) for stage, start in starts.items()}
    load(write_package(tmp_path), "my_package.strop")
    with_plugin = {stage: code_digest(start) for stage, start in starts.items()}
    assert with_plugin["finetune"] == without["finetune"]
    assert with_plugin["evaluate"] != without["evaluate"]
    write_package(tmp_path, number=3)
    load(tmp_path, "my_package.strop")
    assert code_digest(starts["evaluate"]) != with_plugin["evaluate"]


def test_a_plugin_that_adds_to_no_table_may_change_every_stage(tmp_path: Path) -> None:
    before = code_digest("tasks/validate")
    load(write_package(tmp_path, adds=""), "my_package.strop")
    assert code_digest("tasks/validate") != before


def test_relative_imports_are_followed(tmp_path: Path) -> None:
    load(write_package(tmp_path, adds="from . import numbers\n"), "my_package.strop")
    assert "my_package/numbers.py" in map(str, loaded_plugins()[0].files)


def test_a_spawned_process_loads_the_plugins_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.runtime.spawned_workers import Workers

    monkeypatch.chdir(write_package(tmp_path, adds="import os\nos.environ['STROP_TEST_PLUGIN'] = 'loaded'\n"))
    load_plugins(["my_package.strop"], tmp_path)
    monkeypatch.delenv("STROP_TEST_PLUGIN")
    workers = Workers(2, "validate")
    try:
        assert set(workers.map(os.getenv, [("STROP_TEST_PLUGIN",)] * 3)) == {"loaded"}
    finally:
        workers.close()
