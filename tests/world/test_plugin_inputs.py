"""Plugins as inputs: of the stages in dvc.yaml, of a run's snapshot, and of a version's commit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.project import params, write_params
from support.toyworld import git

from flows.dvc_dependencies import with_dependencies
from tasks.config import load_config
from tasks.errors import ConfigError
from tasks.runtime.plugins import loaded_plugins, unload_plugins
from tasks.vcs.dvc_pipeline import changed_stages
from tasks.vcs.dvc_plugins import record_plugins, require_recorded
from tasks.vcs.dvc_repo import with_repo
from tasks.workspace.run_folder import begin
from tasks.workspace.snapshot_commit import make_snapshot_commit

PLUGIN = """
from my_package.numbers import NUMBER
from tasks.runtime.plugin_table import PluginTable
from tasks.scoring.diversity import distinct_n

TABLE = PluginTable("toy", {}, stages=("validate", "gate"))
TABLE.add("mine", NUMBER)
"""
DVC_YAML = """\
stages:
  curate:
    cmd: python -m tasks curate
    deps:
      - data/contract
    outs:
      - curated.txt
  gate:
    cmd: python -m tasks gate
    deps:
      - data/contract
    outs:
      - verdict.txt
"""


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    yield
    unload_plugins()


def write_plugin(number: int) -> None:
    Path("my_package").mkdir(exist_ok=True)
    Path("my_package/numbers.py").write_text(f"NUMBER = {number}\n")
    Path("my_package/strop.py").write_text(PLUGIN)


def use(*plugins: str) -> None:
    write_params(Path(), {**params("x", []), "plugins": list(plugins)})
    load_config()
    record_plugins()


def reproduced() -> list[str]:
    """Records the present inputs, as runs of the stages would."""
    changed = sorted(changed_stages())
    with_repo(lambda repo: [repo.commit(stage, force=True) for stage in ("curate", "gate")], "dvc commit")
    assert changed_stages() == {}
    return changed


def test_only_the_stages_that_a_plugin_can_change_run_again(project: Path) -> None:
    Path("dvc.yaml").write_text(DVC_YAML)
    for output in ("curated.txt", "verdict.txt"):
        Path(output).write_text("x")
    use()
    assert Path("dvc.yaml").read_text() == DVC_YAML
    assert not Path("data/plugins").exists()
    reproduced()
    write_plugin(1)
    use("my_package.strop")
    assert reproduced() == ["gate"], "it was added"
    write_plugin(22)
    assert changed_stages() == {"gate": ["my_package/numbers.py (modified)"]}
    use("my_package.strop")
    assert reproduced() == ["gate"]
    use("my_package.strop")
    assert reproduced() == []
    use()
    assert reproduced() == ["gate"], "it was removed"


def test_the_code_of_strop_that_a_plugin_imports_is_an_input_too_and_make_docs_keeps_it(project: Path) -> None:
    write_plugin(1)
    use("my_package.strop")
    text = Path("dvc.yaml").read_text()
    gate = text[text.index("  gate:") :]
    for path in (
        "data/plugins/gate.json",
        "my_package/numbers.py",
        "my_package/strop.py",
        "tasks/scoring/diversity.py",
    ):
        assert f"      - {path} # plugin\n" in gate
    assert "my_package" not in text[text.index("  curate:") : text.index("  gate:")]
    assert sorted(with_dependencies(text).splitlines()) == sorted(text.splitlines())
    assert json.loads(Path("data/plugins/gate.json").read_text()) == {"my_package.strop": "in the project"}


def test_an_upgraded_installed_plugin_is_recorded_before_a_run_and_refused_in_a_stage(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.chdir(installed)
    write_plugin(1)
    monkeypatch.chdir(project)
    use("my_package.strop")
    require_recorded("gate")
    (installed / "my_package/numbers.py").write_text("NUMBER = 22\n")
    load_config()
    with pytest.raises(ConfigError) as caught:
        require_recorded("gate")
    assert str(caught.value) == (
        "data/plugins/gate.json: is not about the present plugins of stage gate. "
        "Record it: python -m tasks ingest (strop run does it first)"
    )
    require_recorded("curate")
    record_plugins()
    require_recorded("gate")


def test_a_stage_refuses_a_plugin_that_dvc_does_not_compare(project: Path) -> None:
    write_plugin(1)
    use("my_package.strop")
    Path("my_package/strop.py").write_text(f"{PLUGIN}import my_package.more\n")
    Path("my_package/more.py").write_text("")
    load_config()
    with pytest.raises(ConfigError, match=r"stage gate does not depend on my_package/more.py, which the plugins"):
        require_recorded("gate")


@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_run_imports_the_plugin_of_its_snapshot_and_the_version_holds_it(
    is_ignored: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_ignored:
        Path(".gitignore").write_text(f"{Path('.gitignore').read_text()}/my_package/\n")
    write_plugin(1)
    use("my_package.strop")
    work = begin()
    write_plugin(22)
    monkeypatch.chdir(work)
    load_config()
    assert sys.modules["my_package.strop"].__file__ == str(work / "my_package/strop.py")
    assert loaded_plugins()[0].is_local
    require_recorded("gate")
    assert sys.modules["my_package.numbers"].NUMBER == 1
    commit = make_snapshot_commit("a version")
    assert git("show", f"{commit}:my_package/numbers.py") == "NUMBER = 1\n"
    assert "my_package.strop" in git("show", f"{commit}:data/plugins/gate.json")


def test_a_package_in_src_is_imported_from_the_snapshot_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("src").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir("src")
        write_plugin(1)
    monkeypatch.syspath_prepend(str(project / "src"))  # as an editable installation does
    use("my_package.strop")
    assert "      - src/my_package/strop.py # plugin\n" in Path("dvc.yaml").read_text()
    work = begin()
    monkeypatch.chdir(work)
    load_config()
    assert sys.modules["my_package.strop"].__file__ == str(work / "src/my_package/strop.py")
