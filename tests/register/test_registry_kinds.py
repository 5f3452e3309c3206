"""The same story against each kind of registry: a file, an MLflow server, one with a login, and a PostgreSQL database."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from support import postgres, toyworld
from support.mlflowserver import PASSWORD, USER, log_in, server
from support.toyworld import git, run_stages, set_params

from tasks import paths
from tasks.audit.stage import audit
from tasks.config import load_config
from tasks.errors import RegistryError
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.model_store.versions import weights_folder
from tasks.promote.stage import promote, rollback
from tasks.register import logged_model, stage
from tasks.tracking.readable import open_for_reading
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import PROMOTED_TAG, RECEIPT_TAG

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return toyworld.stand_in("judged", tmp_path, monkeypatch)


def use_registry(uri: str, model: str, seed: int = 1) -> None:
    set_params(seed=seed, register={"model_name": model, "tracking_uri": uri})


def use_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Prepares for a kind of registry and returns its address as params.yaml holds it."""
    if kind == "a file":
        return "sqlite:///mlflow/mlflow.db"
    if kind == "a server":
        return server(has_login=False).url
    if kind == "a database":
        postgres.log_in(monkeypatch)
        return postgres.address(postgres.port(), postgres.database())
    if kind == "a server on a database":
        return server(has_login=False, on_postgres=True).url
    log_in(monkeypatch)
    return server(has_login=True).url


KINDS = ("a file", "a server, the login in the environment", "a database", "a server", "a server on a database")


@pytest.mark.parametrize("kind", [*KINDS[:3], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[3:])])
def test_a_version_is_registered_promoted_rolled_back_and_audited(
    world: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    uri, model = use_kind(kind, monkeypatch), f"tiny-{KINDS.index(kind)}"
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    use_registry(uri, model)
    assert stage.run(load_config()).version == 1
    assert stage.run(load_config()).is_new is False
    promote(load_config(), 1, why="first", expected_champion=None)
    use_registry(uri, model, seed=2)
    run_stages()
    assert stage.run(load_config()).version == 2
    registry = open_registry(load_config())
    assert (registry.alias("champion"), registry.alias("challenger")) == (1, 2)
    why = f"better: {'更好' * 3000}"
    promote(load_config(), 2, why=why, expected_champion=1)
    assert registry.version(2).tags[PROMOTED_TAG].endswith("更好更…")
    assert read_ledger(model)[-1].why == why
    assert rollback(load_config(), why="complaints", expected_champion=2).version == 1
    assert (registry.alias("champion"), registry.alias("challenger")) == (1, None)
    assert [version.version for version in registry.versions()] == [1, 2]
    for version in (1, 2):
        links = audit(load_config(), version, deep=True)
        assert all(link.ok for link in links), [link for link in links if not link.ok]
    _is_read_without_mlflow_as_with_it(registry, scratch)
    champion = champion_of(read_ledger(model))
    assert champion is not None
    assert weights_folder(model, 1, champion.weights_digest).is_dir()
    _holds_what_it_should(registry.version(1).run_id)
    assert not list(scratch.rglob("*.safetensors")), "a copy of the model was left in the folder of temporary files"
    printed = "".join(capfd.readouterr())
    assert PASSWORD not in printed
    assert postgres.PASSWORD not in printed
    assert _files_with(postgres.PASSWORD) == []
    if kind == "a database":
        content = postgres.everything_in(uri.rpartition("/")[2])
        assert registry.version(1).run_id in content
        assert postgres.PASSWORD not in content


def _files_with(secret: str) -> list[Path]:
    """The files of the project, git's objects unpacked, that contain a secret."""
    with_it = [p for p in Path().rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
    names = git("rev-list", "--objects", "--all").split("\n")
    ids = "\n".join(name[:40] for name in names if name).encode()
    objects = subprocess.run(["git", "cat-file", "--batch"], input=ids, capture_output=True, check=True).stdout
    return with_it + [Path(".git")] * (secret.encode() in objects)


def _is_read_without_mlflow_as_with_it(registry: Registry, scratch: Path) -> None:
    """The audit reads a file by SQL and a server by HTTP."""
    reader = open_for_reading(load_config())
    assert not isinstance(reader, Registry)
    assert (reader.anchors(), reader.alias("champion"), reader.alias("x")) == (registry.anchors(), 1, None)
    for number in (1, 2):
        version = registry.version(number)
        assert reader.version(number) == version
        assert reader.foreign_location(version) == registry.foreign_location(version) == ""
        assert sorted(reader.model_metrics(version.source)) == sorted(registry.model_metrics(version.source))
        data = registry.run_data(version.run_id)
        assert reader.run_data(version.run_id) == data
        assert data.metrics
        for name in data.metrics:
            assert reader.history(version.run_id, name) == registry.history(version.run_id, name)
        digest = version.tags[RECEIPT_TAG]
        assert reader.find_run(RECEIPT_TAG, digest) == registry.find_run(RECEIPT_TAG, digest) == version.run_id
        for what, source in (("model_files", version.source), ("run_files", version.run_id)):
            ours, theirs = (
                getattr(registry_, what)(source, Path(tempfile.mkdtemp(dir=scratch)))
                for registry_ in (reader, registry)
            )
            assert {name: path.read_bytes() for name, path in ours.items()} == {
                name: path.read_bytes() for name, path in theirs.items()
            }
        weights = reader.weight_files(version.source, Path(tempfile.mkdtemp(dir=scratch)))
        assert [path.name for path in weights] == ["adapter_model.safetensors"]
    assert reader.find_run(RECEIPT_TAG, "none") is None
    for source in (None, "elsewhere"):
        assert reader.model_metrics(source) == []
    with pytest.raises(RegistryError, match="has no version 7 of"):
        reader.version(7)
    with pytest.raises(RegistryError, match="names no logged model"):
        reader.model_files("elsewhere", scratch)
    for unknown in (lambda: reader.run_data("0" * 32), lambda: reader.model_files(f"models:/m-{'0' * 32}", scratch)):
        with pytest.raises(RegistryError) as caught:
            unknown()
        assert "\n" not in str(caught.value)
    shutil.rmtree(scratch)
    scratch.mkdir()


def _holds_what_it_should(run_id: str) -> None:
    registry = open_registry(load_config())
    recorded = registry.client.get_run(run_id)
    assert recorded.data.params["finetune.lora.rank"] == "4"
    assert len(registry.client.get_metric_history(run_id, "train/loss")) == 4
    assert {"receipt.json", "verdict.json"} <= {file.path for file in registry.client.list_artifacts(run_id)}
    from tasks.base.convert import base_folder
    from tasks.base.load import load_trained
    from tasks.base.pin import read_base

    record = read_base()
    model, tokenizer = registry.load_model(f"models:/{registry.model}@champion", base_folder(record))
    digest = registry.version(1).tags["strop.weights"]
    ours = load_trained(weights_folder(registry.model, 1, digest), record)
    assert float((logged_model.logits(model, tokenizer) - logged_model.logits(ours, tokenizer)).abs().max()) == 0


def test_without_a_login_or_with_a_wrong_one_there_is_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = server(has_login=True).url
    use_registry(address, "tiny")
    with pytest.raises(RegistryError, match=r"needs a login \(401\)\. Set MLFLOW_TRACKING_USERNAME"):
        stage.run(load_config())
    log_in(monkeypatch, password="wrong")
    with pytest.raises(RegistryError, match=r"refused the login \(401\)") as caught:
        stage.run(load_config())
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("REGISTRY_PASSWORD", "wrong-too")  # params.yaml may not hold it
    use_registry(address.replace("://", f"://{USER}:${{REGISTRY_PASSWORD}}@"), "tiny")
    with pytest.raises(RegistryError, match="refused the login") as caught:
        stage.run(load_config())
    assert "wrong-too" not in str(caught.value)
    assert read_ledger("tiny") == []


def test_a_login_that_may_only_read_promotes_nothing(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    address = server(has_login=True).url
    reader = {"username": "reader", "password": "reads-only-everything"}
    requests.post(f"{address}/api/2.0/mlflow/users/create", json=reader, auth=(USER, PASSWORD), timeout=30)
    use_registry(address, "tiny-of-the-team")
    log_in(monkeypatch)
    stage.run(load_config())
    log_in(monkeypatch, reader["username"], reader["password"])
    before = read_ledger("tiny-of-the-team")
    with pytest.raises(RegistryError, match=r"does not permit this \(403") as refused:
        promote(load_config(), 1, why="mine", expected_champion=None)
    assert "\n" not in str(refused.value)
    assert read_ledger("tiny-of-the-team") == before
    log_in(monkeypatch)
    promote(load_config(), 1, why="mine", expected_champion=None)
    assert open_registry(load_config()).alias("champion") == 1
    assert json.loads(paths.ROUND.read_text())["champion"] is None
