"""A base that cannot be trained is reported in one line: fewer embeddings than tokens (case 24), weights with NaN."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from support.mlflowserver import give_empty_registry
from support.project import params, write_params
from support.toychat import CHATML, chat_tokenizer, save_llama

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.pin import pin_base
from tasks.base.settings import BaseSettings
from tasks.base.vocabulary import embeddings_in, require_embeddings, tokens_in
from tasks.errors import BaseModelError
from tasks.finetune.loop.train import first_not_finite

SIZES = r"its tokenizer has 4\d\d tokens, its embeddings 400: some tokens have no embedding"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save_llama(tmp_path / "small", chat_tokenizer(CHATML), embeddings=400)


def test_case_24_a_tokenizer_with_more_tokens_than_embeddings_is_rejected_when_it_is_pinned(
    project: Path, small: Path
) -> None:
    with pytest.raises(BaseModelError, match=SIZES) as raised:
        pin_base(BaseSettings(model=str(small)))
    assert str(raised.value).startswith(f"{small}: ")
    assert not paths.BASE.exists()


def test_loading_its_tokenizer_is_rejected_too(small: Path) -> None:
    for generates in (True, False):
        with pytest.raises(BaseModelError, match=SIZES):
            load_tokenizer(small, generates=generates)


def test_the_doctor_names_both_numbers(project: Path, small: Path, strop: Callable[..., tuple[int, str, str]]) -> None:
    write_params(project, params(small, []))
    give_empty_registry(project)
    code, out, _ = strop("doctor")
    assert code
    assert "its embeddings 400" in " ".join(out.split())


def test_a_base_pinned_by_an_older_version_is_rejected_too(
    project: Path, small: Path, strop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tasks.base.pin.require_embeddings", lambda *_: None)
        pin_base(BaseSettings(model=str(small)))
    write_params(project, params(small, []))
    give_empty_registry(project)
    assert "its embeddings 400" in " ".join(strop("doctor")[1].split())


def test_more_embeddings_than_tokens_are_no_fault(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "padded", chat_tokenizer(CHATML), embeddings=512)
    require_embeddings(folder)
    assert embeddings_in(folder) == 512
    assert tokens_in(folder) == len(chat_tokenizer(CHATML))


def test_the_weights_have_priority_over_the_configuration(small: Path) -> None:
    config: dict[str, Any] = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"vocab_size": 9999}))
    with pytest.raises(BaseModelError, match="its embeddings 400"):
        require_embeddings(small)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "base", chat_tokenizer(CHATML))
    assert first_not_finite(folder) is None
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert first_not_finite(folder) == "model.layers.1.mlp.up_proj.weight"
