"""A version that was registered before there was a key is signed afterwards, and then promoted, in a whole project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import toyworld
from support.signing import make_key, signature_refs
from support.toyworld import git as user

from tasks import paths
from tasks.audit.stage import audit
from tasks.config import load_config
from tasks.errors import SigningError
from tasks.promote.stage import promote
from tasks.register.rebuild import rebuild

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 passed the gate. Neither is signed."""
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def set_signing(**values: Any) -> None:
    yaml = YAML()
    document = yaml.load(paths.PARAMS)
    document["signing"] = values
    yaml.dump(document, paths.PARAMS)


def test_a_version_from_before_the_key_is_signed_afterwards_and_then_promoted(
    world: Path, tmp_path: Path, strop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key("ada", tmp_path)
    set_signing(key=str(key), require=["promotion", "serving", "audit"])
    broken = {link.name: link.detail for link in audit(load_config(), 2) if not link.ok}
    assert broken.keys() == {"signatures"}
    with pytest.raises(SigningError, match="must not enter service: the receipt of v2 is not signed"):
        promote(load_config(), 2, why="better", expected_champion=1)
    code, _, err = strop("generate", "Hello 你好")
    assert code == 1
    assert "tiny v1: must not be loaded" in err
    assert err.count("\n") == 1
    code, out, _ = strop("sign", "2")
    assert (code, out.count("Signed: ")) == (0, 2)
    promote(load_config(), 2, why="better", expected_champion=1)
    links = {link.name: link for link in audit(load_config(), 2)}
    assert all(link.ok for link in links.values()), links
    assert links["signatures"].detail == "receipt and 2 entries signed by ada"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow/another.db")
    rebuild(load_config())  # as after a loss
    user("gc", "-q", "--prune=now")
    assert {link.name: link.detail for link in audit(load_config(), 2) if not link.ok} == {}


def test_a_version_that_differs_from_its_receipt_is_not_signed(
    world: Path, tmp_path: Path, strop: Callable[..., tuple[int, str, str]]
) -> None:
    set_signing(key=str(make_key("ada", tmp_path)))
    (batch,) = paths.RAW.rglob("*.parquet")
    content = batch.read_bytes()
    batch.unlink()
    batch.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, out, err = strop("sign", "2")
    assert (code, out) == (1, "")
    assert "v2 differs from its receipt (raw batches:" in err
    assert err.count("\n") == 1
    assert signature_refs() == []
