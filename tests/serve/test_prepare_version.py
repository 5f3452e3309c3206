"""A version is checked before it is loaded: its signatures, its files, its base."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import toyworld

from tasks.base.pin import base_of, read_base
from tasks.config import load_config
from tasks.errors import SigningError
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.serve.versions import prepare as preparing
from tasks.serve.versions.loaded import VersionRefused
from tasks.serve.versions.prepare import PreparedEngines, PreparedVersion, prepare

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves, an adapter."""
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def champion() -> Any:
    entry = champion_of(read_ledger("tiny"))
    assert entry is not None
    return entry


def test_a_version_is_prepared_with_its_files_its_base_and_its_receipt(world: Path) -> None:
    started: list[PreparedVersion] = []

    async def start(config: Any, prepared: PreparedVersion) -> Any:
        started.append(prepared)

    asyncio.run(PreparedEngines(load_config(), start).load(champion()))
    (prepared,) = started
    assert prepared.name == "tiny@v1"
    assert (prepared.folder / "adapter_config.json").is_file()
    assert prepared.base is not None
    assert prepared.base.digest == prepared.receipt["base"]["digest"]


def test_a_version_whose_base_has_changed_is_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(json.loads(Path("data/base.json").read_text())["id"], tmp_path / "base"))
    monkeypatch.setattr(preparing, "base_of", lambda recorded: replace(base_of(recorded), id=str(copy)))
    assert prepare(load_config(), champion()).base is not None
    with (copy / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(VersionRefused, match=r"tiny@v1 cannot be loaded: .*config.json has changed"):
        prepare(load_config(), champion())


def test_a_version_of_another_base_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(read_base(), id="另一个", files={"config.json": "0" * 64})
    monkeypatch.setattr(preparing, "read_base", lambda: other)
    with pytest.raises(VersionRefused, match=r"tiny@v1 cannot be loaded: .*is an adapter of .*, not of 另一个"):
        prepare(load_config(), champion())


def test_a_version_without_a_required_signature_or_without_its_files_is_refused(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(".dvc/cache")
    shutil.rmtree(".strop/models", ignore_errors=True)
    shutil.rmtree("data/model", ignore_errors=True)
    with pytest.raises(VersionRefused, match="tiny@v1 cannot be loaded"):
        prepare(load_config(), champion())

    def unsigned(config: Any, version: int) -> None:
        raise SigningError("must not be loaded: the receipt has no signature", where="tiny v1")

    monkeypatch.setattr(preparing, "require_servable", unsigned)
    with pytest.raises(VersionRefused, match="the receipt has no signature"):
        prepare(load_config(), champion())
