"""A base from scratch: its tokenizer is trained on the ingested rows, and the same rows give the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.project import REPOSITORY
from support.rawtext import text_rows
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.audit.digests import Digests
from tasks.audit.links import check_base
from tasks.base.convert import base_folder
from tasks.base.load import load_base, load_tokenizer
from tasks.base.pin import BaseRecord, pin_base, read_base
from tasks.base.scratch import MAX_TOKEN_BYTES, SIZES
from tasks.base.scratch_corpus import read_texts, texts_of
from tasks.base.settings import BaseSettings, ScratchSettings
from tasks.errors import BaseModelError
from tasks.runtime.files import folder_digest, read_json, write_json
from tasks.state.manifest import read_manifest

NANO: dict[str, Any] = {"size": "nano", "vocabulary": 400, "context": 128}


def from_scratch(**settings: Any) -> BaseSettings:
    return BaseSettings(model="scratch", scratch=ScratchSettings(**NANO | settings))


@pytest.fixture
def pages(project: Path) -> Path:
    write_part(text_rows(60), "000001-t1.parquet")
    return project


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_base_from_scratch_has_the_requested_size_and_a_new_tokenizer(architecture: str, pages: Path) -> None:
    record = pin_base(from_scratch(architecture=architecture))
    model, tokenizer = load_base(record), load_tokenizer(base_folder(record))
    layers, width, _ = SIZES["nano"]
    assert record == read_base()
    assert model.config.model_type == architecture
    assert model.num_parameters() == pytest.approx(12 * layers * width**2 + 400 * width, rel=0.15)
    assert len(tokenizer) == model.get_input_embeddings().num_embeddings == 400
    assert model.config.max_position_embeddings == 128
    assert tokenizer.eos_token_id == model.config.eos_token_id != tokenizer.pad_token_id
    assert "### Instruction" in tokenizer.chat_template


def test_its_tokenizer_encodes_english_chinese_and_unseen_text(pages: Path) -> None:
    tokenizer = load_tokenizer(base_folder(pin_base(from_scratch())))
    for text in ("The people of the village", "北京的天气很好", "żółw 🐢 \t 未见过的字\n\n  end ", ""):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer(" village")["input_ids"]) == 1
    assert len(tokenizer("天气很好")["input_ids"]) <= 4 < len("天气很好".encode())


def test_a_repeated_sentence_without_spaces_becomes_no_token(project: Path) -> None:
    secret = "王小明住在长安街九百号院子里的那棵大槐树旁边，他的妹妹住在对面。"
    write_part(text_rows(40, lambda number: secret + "x" * 200))
    tokenizer = load_tokenizer(base_folder(pin_base(from_scratch(vocabulary=600))))
    plain = set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens}
    assert max(len(token) for token in plain) <= MAX_TOKEN_BYTES < len(secret.encode()), "a character a byte"
    assert not any("长安街九百号" in tokenizer.decode([place]) for place in range(len(tokenizer)))
    assert tokenizer.decode(tokenizer(secret)["input_ids"]) == secret


def test_the_folder_of_a_killed_process_is_removed_by_the_next(pages: Path) -> None:
    (paths.BASES / "tmpleft").mkdir(parents=True)
    (paths.BASES / "tmpleft/model.safetensors").write_bytes(b"half")
    (paths.BASES / "labels-ab12").mkdir()
    record = pin_base(from_scratch())
    assert {folder.name for folder in paths.BASES.iterdir()} == {record.folder.name, "labels-ab12"}


def test_the_initial_loss_is_that_of_a_uniform_distribution(pages: Path) -> None:
    import math

    import torch

    model = load_base(pin_base(from_scratch()))
    ids = torch.arange(2, 102)[None]
    assert float(model(input_ids=ids, labels=ids).loss) == pytest.approx(math.log(400), rel=0.05)


CREATE_BASE = """
import json, sys
from tasks.base.pin import pin_base
from tasks.base.settings import BaseSettings, ScratchSettings
print(pin_base(BaseSettings(model="scratch", scratch=ScratchSettings(**json.loads(sys.argv[1])))).digest)
"""


def test_the_same_rows_give_the_same_bytes_whatever_the_threads(pages: Path, tmp_path: Path) -> None:
    import os

    copy = shutil.copytree(pages, tmp_path / "copy")
    record = pin_base(from_scratch())
    many = {"RAYON_NUM_THREADS": "4", "TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "4"}
    command = [sys.executable, "-c", CREATE_BASE, json.dumps(NANO)]
    environment = os.environ | many | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=True)
    (created,) = (copy / paths.BASES).iterdir()
    assert result.stdout.strip() == record.digest
    assert folder_digest(created) == folder_digest(record.folder)


def test_another_seed_gives_other_weights_and_the_same_tokenizer(pages: Path) -> None:
    first, second = pin_base(from_scratch()), pin_base(from_scratch(seed=18))
    assert first.files["model.safetensors"] != second.files["model.safetensors"]
    assert first.files["tokenizer.json"] == second.files["tokenizer.json"]


def test_later_rows_do_not_change_a_pinned_base_but_its_settings_do(pages: Path) -> None:
    first = pin_base(from_scratch())
    write_part(toy_rows(), "000002-b1.parquet")
    assert pin_base(from_scratch()) == first
    assert pin_base(from_scratch(vocabulary=350)).digest != first.digest


def test_a_base_from_scratch_is_recreated_from_its_original_rows(pages: Path) -> None:
    record = pin_base(from_scratch())
    write_part(toy_rows(), "000002-b1.parquet")
    shutil.rmtree(paths.BASES)
    assert base_folder(read_base()).is_dir()
    assert pin_base(from_scratch()) == record


def test_a_recreated_base_that_differs_is_reported_with_the_reason(pages: Path) -> None:
    record = pin_base(from_scratch())
    entry = read_json(paths.BASE)
    entry["origin"]["made_with"]["tokenizers"] = "0.1"
    entry["files"]["tokenizer.json"] = "0" * 64
    write_json(paths.BASE, entry)
    with pytest.raises(
        BaseModelError, match=r"differs: tokenizer\.json; it was created with tokenizers 0\.1, here"
    ) as caught:
        base_folder(read_base())
    assert "\n" not in str(caught.value)
    assert record.folder.is_dir()


def test_a_missing_batch_of_a_base_from_scratch_is_named(pages: Path) -> None:
    pin_base(from_scratch())
    shutil.rmtree(paths.BASES)
    (batch,) = read_manifest()
    batch.path.unlink()
    with pytest.raises(BaseModelError, match=r"t1\.parquet: batch t1.*dvc checkout data/raw\.dvc"):
        base_folder(read_base())
    paths.MANIFEST.unlink()
    with pytest.raises(BaseModelError, match=r"trained on batch t1, which is not in data/raw/manifest\.json"):
        base_folder(read_base())


def test_the_audit_of_a_version_recreates_the_base_and_names_what_is_missing(pages: Path) -> None:
    record = pin_base(from_scratch())
    subject: Any = SimpleNamespace(
        receipt={"base": {**record.entry(), "digest": record.digest}}, digests=Digests(reads_all=True)
    )
    shutil.rmtree(paths.BASES)
    assert check_base(subject).ok
    shutil.rmtree(paths.BASES)
    next(paths.RAW.rglob("*.parquet")).unlink()
    link = check_base(subject)
    assert not link.ok
    assert "batch t1, whose rows its tokenizer is trained on, is not on the disk" in link.detail


def test_doctor_reads_the_configuration_of_a_base_from_scratch(pages: Path) -> None:
    from flows.doctor.examine import read_configuration

    assert read_configuration(pin_base(from_scratch()))["vocab_size"] == 400


def test_a_changed_file_of_a_base_from_scratch_is_named(pages: Path) -> None:
    record = pin_base(from_scratch())
    (record.folder / "config.json").write_text("{}")
    with pytest.raises(BaseModelError, match=rf"config\.json has changed.*rm -r {record.folder}"):
        pin_base(from_scratch())


def test_a_base_from_scratch_without_rows_or_text_is_an_error(project: Path) -> None:
    with pytest.raises(BaseModelError, match=r"there are none\. Ingest some: python -m tasks ingest"):
        pin_base(from_scratch())
    write_part([row | {"use": "benchmark"} for row in text_rows(3)], "000001-t1.parquet")
    with pytest.raises(BaseModelError, match="the ingested rows have no text"):
        pin_base(from_scratch())
    assert not list(paths.BASES.iterdir())


def test_golden_and_benchmark_rows_are_not_in_the_tokenizer_text(project: Path) -> None:
    rows = text_rows(9)
    write_part([row | {"use": use} for row, use in zip(rows, ["train", "golden", "benchmark"] * 3, strict=True)])
    assert list(read_texts(read_manifest(), 1)) == [row["output"] for row in rows[::3]]


def test_of_too_much_text_a_sample_is_read_that_does_not_depend_on_the_order_of_batches(project: Path) -> None:
    def text(number: int) -> str:
        return f"{number} " + "x " * 5000

    rows = text_rows(300, text)
    write_part(rows[:200], "000001-t1.parquet")
    write_part([row | {"batch": "t2"} for row in rows[200:]], "000002-t2.parquet")
    batches = read_manifest()
    chosen = list(read_texts(batches, 1))
    assert 900_000 < sum(map(len, chosen)) <= 1_000_000
    assert {text.split()[0] for text in chosen[:-1]} <= {text.split()[0] for text in read_texts(batches[::-1], 1)}
    assert len(list(read_texts(batches, 4))) == 300


def test_single_words_are_not_texts() -> None:
    record = {"url": "https://example.org/a", "role": "user", "turns": [{"value": "Hello there"}, {"value": "你好"}]}
    assert list(texts_of(record)) == ["Hello there", "你好"]


def test_scratch_settings_are_only_allowed_with_scratch() -> None:
    with pytest.raises(ValueError, match="only allowed with model: scratch"):
        BaseSettings(model="somewhere", scratch=ScratchSettings())
    assert BaseSettings(model="scratch").scratch_settings() == ScratchSettings()
    assert BaseSettings(model="somewhere").scratch_settings() is None


def test_a_record_of_another_base_has_no_origin(project: Path, tiny_gpt2: Path) -> None:
    record = pin_base(BaseSettings(model=str(tiny_gpt2)))
    assert "origin" not in read_json(paths.BASE)
    assert BaseRecord(**record.entry()) == record
