"""The weights of a registered model: stored once, unchanged, and loaded as they were judged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.toyworld import run_stages, set_params, set_verdicts

import mlflow
from flows.cli.bom import bom
from tasks import paths
from tasks.base.weights_digest import digest_of_files, weights_digest
from tasks.config import load_config
from tasks.errors import AuditError, RegistryError
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.model_store.versions import weights_folder
from tasks.register import logged_model, stage
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.version_links import with_addresses
from tasks.vcs import dvc_pipeline

pytestmark = pytest.mark.usefixtures("warm")


def test_equal_weights_under_a_new_verdict_are_stored_once(judged: Path) -> None:
    set_verdicts(seed1=False)
    dvc_pipeline.reproduce("gate")
    assert stage.run(load_config()).version == 1
    run_stages(rejudge=True)
    assert json.loads(paths.ROUND.read_text())["looks"] == 1
    assert stage.run(load_config()).version == 2
    registry = open_registry(load_config())
    first, second = registry.versions()
    assert first.source == second.source


def test_equal_weights_with_another_template_are_a_model_of_their_own(judged: Path) -> None:
    """What is registered is what was judged, file by file, and each version answers with its own files."""
    set_verdicts(seed1=False, seed5=False)
    dvc_pipeline.reproduce("gate")
    assert stage.run(load_config()).version == 1
    shutil.copytree("adapters/1", "adapters/5")
    Path("adapters/5/templates.json").write_text('{"max_length_tokens": 5}')
    set_params(seed=5)
    run_stages()
    assert stage.run(load_config()).version == 2
    registry = open_registry(load_config())
    first, second = registry.versions()
    assert first.source != second.source
    for version, content in ((first, "{}"), (second, '{"max_length_tokens": 5}'), (first, "{}")):
        logged = registry.model_files(version.source, Path("scratch"))["templates.json"]
        kept = weights_folder("tiny", version.version, version.tags["strop.weights"]) / "templates.json"
        assert logged.read_text() == kept.read_text() == content


def test_registry_and_project_share_the_weights_on_one_disk(judged: Path) -> None:
    stage.run(load_config())
    registry = open_registry(load_config())
    (stored,) = registry.weight_files(registry.version(1).source, Path("scratch"))
    assert stored.samefile(paths.MODELS / weights_digest(paths.MODEL) / stored.name)


def test_a_reload_through_the_alias_gives_equal_logits(serving: Path) -> None:
    from tasks.base.convert import base_folder
    from tasks.base.load import load_trained
    from tasks.base.pin import read_base

    registry = open_registry(load_config())
    model, tokenizer = registry.load_model("models:/tiny@champion", base_folder(read_base()))
    champion = champion_of(read_ledger("tiny"))
    assert champion is not None
    ours = load_trained(weights_folder("tiny", 1, champion.weights_digest), read_base())
    difference = logged_model.logits(model, tokenizer) - logged_model.logits(ours, tokenizer)
    assert float(difference.abs().max()) == 0


def test_full_weights_are_logged_byte_for_byte_too(judged: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    record = json.loads(paths.BASE.read_text())
    folder = tmp_path / "full"
    GPT2LMHeadModel.from_pretrained(record["id"]).save_pretrained(folder)
    AutoTokenizer.from_pretrained("adapters/1").save_pretrained(folder)
    registry = open_registry(load_config())
    run_id = registry.create_run("full", {})
    digest = weights_digest(folder)
    source = logged_model.log_model(load_config(), run_id, folder, digest)
    assert digest_of_files(registry.weight_files(source, tmp_path)) == digest


def test_the_model_is_logged_in_a_process_of_its_own(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(judged)
    code = (
        "from tasks.config import load_config; from tasks.register.stage import run; import sys\n"
        "from tasks.runtime.logs.setup import set_up_logs; set_up_logs(); run(load_config())\n"
    )
    code += "assert 'torch' not in sys.modules, 'the flow would keep the model in memory'\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "register: tiny v1, passed the gate" in result.stderr
    assert result.stdout == ""
    assert open_registry(load_config()).version(1).tags["strop.weights"] == weights_digest(paths.MODEL)


def test_a_version_has_a_page_a_bom_and_a_signature(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page is in its commit, too; the description in the registry has links to the version's own run."""
    from tasks.model_store.description import with_page
    from tasks.model_store.versions import commit_of, receipt_at
    from tasks.register.ml_bom import BOM, ml_bom
    from tasks.vcs import git

    stage.run(load_config())
    registry = open_registry(load_config())
    version, commit = registry.version(1), str(commit_of("tiny", 1))
    page = (git.read_at(commit, paths.VERSION_PAGE) or b"").decode()
    assert "**It passed the gate**, compared with the base model on 40 test rows." in page
    assert version.description == with_page("", with_addresses(page, registry.experiment_id, version.run_id))
    receipt = receipt_at(commit)
    assert receipt is not None
    assert registry.download_file(version.run_id, BOM, Path("scratch")).read_text() == ml_bom(receipt, "tiny")
    bom(1, None)
    assert capsys.readouterr().out == ml_bom(receipt, "tiny")
    with pytest.raises(AuditError, match="git has no receipt of version 2 of tiny"):
        bom(2, None)
    assert set(receipt["files"]) >= {"adapter_model.safetensors", "tokenizer.json"}
    signature = mlflow.models.get_model_info(version.source).signature
    assert "messages" in [column.name for column in signature.inputs]
    assert "choices" in [column.name for column in signature.outputs]


def test_a_registry_that_returns_another_model_is_refused(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Registry.load_model

    def tampered(self: Registry, uri: str, base: Path | None) -> Any:
        model, tokenizer = real(self, uri, base)
        next(iter(model.parameters())).data += 0.1
        return model, tokenizer

    monkeypatch.setattr(Registry, "load_model", tampered)
    with pytest.raises(RegistryError, match="not the one that was logged: its logits differ"):
        stage.run(load_config())
    registry = open_registry(load_config())
    assert registry.versions() == []
    assert registry.client.search_logged_models([registry.experiment_id]) == []
