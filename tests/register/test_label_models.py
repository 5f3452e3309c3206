"""Models with a head are registered as such: the reloaded model gives the same output, with our code and with MLflow alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.mlflowserver import give_empty_registry
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.base.heads import head_logits, text_ids
from tasks.base.load import load_base, load_tokenizer, load_trained
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.errors import RegistryError
from tasks.finetune.stage import run as finetune
from tasks.register.logged_model import log_model
from tasks.render.stage import run as render
from tasks.runtime.files import read_json, write_json
from tasks.tracking.registry import Registry, open_registry

TEXT = "The striker scored, 体育新闻。"


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    give_empty_registry(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_params(root, params("none", []))
        open_registry(load_config())
    return root / "mlflow"


@pytest.fixture
def registry_folder(project: Path, empty_registry: Path) -> None:
    shutil.copytree(empty_registry, project / "mlflow", dirs_exist_ok=True)


@pytest.fixture
def candidate(project: Path, request: Any, registry_folder: None) -> tuple[Registry, str]:
    """A trained head; its registry, and a run."""
    base, method = request.param
    given = {"objective": "classify", "precision": "fp32", "micro_batch_rows": 8, "method": method, "max_steps": 2}
    write_params(project, params(request.getfixturevalue(base), [], finetune=given))
    config = load_config()
    begin_round(config)
    write_part(toy_rows(questions=0))
    for room in (curate, render, finetune):
        room(config)
    registry = open_registry(config)
    return registry, registry.create_run("x", {})


@pytest.mark.parametrize(
    "candidate", [("tiny_bert", "lora"), ("tiny_bert", "full"), ("tiny_llama", "lora")], indirect=True
)
def test_a_head_is_reloaded_unchanged_and_serves_with_mlflow_alone(candidate: tuple[Registry, str]) -> None:
    from mlflow.utils.file_utils import local_file_uri_to_path

    import mlflow

    registry, run_id = candidate
    uri = log_model(load_config(), run_id, paths.MODEL, weights_digest(paths.MODEL))
    (model,) = registry.client.search_logged_models([registry.experiment_id])
    signature = mlflow.models.get_model_info(uri).signature
    assert [column.name for column in signature.outputs] == ["label", "score"]
    folder = Path(local_file_uri_to_path(model.artifact_location))
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"labels.json", "templates.json"} <= files

    ids, _ = text_ids(load_tokenizer(paths.MODEL, generates=False), [TEXT], 128)[0]
    shares = torch.tensor(head_logits(load_trained(paths.MODEL, read_base()), [ids], 1)[0]).softmax(0)
    labels = read_json(paths.MODEL / "labels.json")
    pipeline = mlflow.transformers.load_model(uri)
    (label,) = pipeline([TEXT])
    assert label["label"] == labels[int(shares.argmax())]
    assert label["score"] == pytest.approx(float(shares.max()), rel=1e-4)


@pytest.mark.parametrize("candidate", [("tiny_bert", "lora")], indirect=True)
def test_a_head_that_differs_after_a_reload_is_not_registered(
    candidate: tuple[Registry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, run_id = candidate
    plain = Registry.load_model

    def other_head(self: Registry, uri: str, base: Path | None) -> Any:
        model, tokenizer = plain(self, uri, base)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "classifier" in name:
                    value.add_(0.1)
        return model, tokenizer

    monkeypatch.setattr(Registry, "load_model", other_head)
    with pytest.raises(RegistryError, match="its logits differ"):
        log_model(load_config(), run_id, paths.MODEL, weights_digest(paths.MODEL))
    assert registry.find_models(weights_digest(paths.MODEL)) == []


def test_a_reward_model_is_reloaded_unchanged(project: Path, tiny_llama: Path, registry_folder: None) -> None:
    write_params(project, params(tiny_llama, [], finetune={"objective": "reward"}))
    config = load_config()
    begin_round(config)
    load_base(read_base(), labels=("reward",)).save_pretrained(paths.MODEL)
    load_tokenizer(tiny_llama).save_pretrained(paths.MODEL)
    write_json(paths.MODEL / "labels.json", ["reward"])
    registry = open_registry(config)
    uri = log_model(config, registry.create_run("x", {}), paths.MODEL, weights_digest(paths.MODEL))
    model, tokenizer = registry.load_model(uri, None)
    assert model.config.id2label == {0: "reward"}
    assert tokenizer.chat_template
    assert json.loads((paths.MODEL / "labels.json").read_text()) == ["reward"]
