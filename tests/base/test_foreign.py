"""Custom code and pickles of a base: neither runs unless it is pinned."""

from __future__ import annotations

import json
import os
import pty
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tasks import paths
from tasks.base.load import load_base, load_tokenizer, load_weights
from tasks.base.pin import pin_base, read_base, verify_base
from tasks.base.settings import BaseSettings
from tasks.errors import BaseModelError

RAN = "STROP_TEST_CODE_RAN"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = f"""
import os
os.environ["{RAN}"] = "yes"
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "strop_own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base that needs custom code."""
    monkeypatch.delenv(RAN, raising=False)
    monkeypatch.setenv("HF_MODULES_CACHE", str(project / "modules"))
    folder = project / "own"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "strop_own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE)
    return folder


def test_custom_code_never_runs_by_default_and_the_error_names_the_setting(own_code: Path) -> None:
    for act in (
        lambda: pin_base(BaseSettings(model=str(own_code))),
        lambda: load_weights(own_code),
        lambda: load_tokenizer(own_code),
    ):
        with pytest.raises(BaseModelError, match="needs custom code to run") as error:
            act()
        assert "\n" not in str(error.value)
        assert "trust_remote_code" in str(error.value)
    assert RAN not in os.environ


def test_a_terminal_shows_no_prompt(own_code: Path) -> None:
    child, terminal = pty.fork()
    if not child:
        try:
            load_weights(own_code)
        except BaseModelError as error:
            os.write(1, f"refused: {error.what[:40]}".encode())
        finally:
            os._exit(0)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.waitpid(child, 0)
    assert b"refused: needs custom code" in shown
    assert b"[y/N]" not in shown


def test_trusted_code_is_pinned_by_its_bytes(own_code: Path) -> None:
    record = pin_base(BaseSettings(model=str(own_code), trust_remote_code=True))
    assert "own.py" in record.files
    assert json.loads(paths.BASE.read_text())["remote_code"] is True
    assert type(load_base(read_base())).__name__ == "OwnModel"
    (own_code / "own.py").write_text(CODE + "\nos.environ['STROP_TEST_CHANGED'] = 'yes'\n")
    with pytest.raises(BaseModelError, match=r"own\.py has changed"):
        verify_base(record)
    with pytest.raises(BaseModelError, match="needs custom code"):
        load_weights(own_code)
    assert "STROP_TEST_CHANGED" not in os.environ


def test_code_of_another_repository_is_rejected_even_if_trusted(own_code: Path) -> None:
    config = json.loads((own_code / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "somebody/else--own.OwnModel"}
    (own_code / "config.json").write_text(json.dumps(config))
    with pytest.raises(BaseModelError, match="code of another repository"):
        pin_base(BaseSettings(model=str(own_code), trust_remote_code=True))


def test_trust_needs_a_commit_for_a_hub_id() -> None:
    for revision in (None, "main", COMMIT[:8]):
        with pytest.raises(ValidationError, match="40 hexadecimal digits"):
            BaseSettings(model="somebody/model", revision=revision, trust_remote_code=True)
    assert BaseSettings(model="somebody/model", revision=COMMIT, trust_remote_code=True).trust_remote_code
    with pytest.raises(ValidationError, match="is only allowed for a folder or a hub id"):
        BaseSettings(model="package:llm/x.gguf", trust_remote_code=True)


def test_a_base_with_auto_map_that_transformers_supports_runs_no_custom_code(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RAN, raising=False)
    shutil.copytree(tiny_llama, project / "known")
    config = json.loads((project / "known/config.json").read_text()) | {
        "auto_map": {"AutoModelForCausalLM": "own.OwnModel"}
    }
    (project / "known/config.json").write_text(json.dumps(config))
    (project / "known/own.py").write_text(CODE)
    record = pin_base(BaseSettings(model=str(project / "known")))
    assert "own.py" not in record.files
    assert type(load_base(record)).__name__ == "LlamaForCausalLM"
    assert RAN not in os.environ


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"])
def test_weights_as_pickles_are_rejected_in_favour_of_safetensors(project: Path, tiny_llama: Path, name: str) -> None:
    shutil.copytree(tiny_llama, project / "old")
    for path in (project / "old").glob("*.safetensors"):
        path.unlink()
    torch.save({"x": torch.zeros(1)}, project / "old" / name)
    for act in (lambda: pin_base(BaseSettings(model=str(project / "old"))), lambda: load_weights(project / "old")):
        with pytest.raises(BaseModelError, match="safetensors") as error:
            act()
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_pickles_next_to_safetensors_are_ignored(project: Path, tiny_llama: Path) -> None:
    shutil.copytree(tiny_llama, project / "both")
    torch.save({"x": torch.zeros(1)}, project / "both/pytorch_model.bin")
    assert "pytorch_model.bin" not in pin_base(BaseSettings(model=str(project / "both"))).files
