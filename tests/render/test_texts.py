"""Raw text: none of it is lost, every token is trained, and it is separate from prompts and answers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.project import begin_round, params, write_params
from support.rawtext import text_rows, write_texts_and_answers
from support.tiny_models import make_tiny_tokenizer
from support.toy_rows import toy_rows

from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.dataset.rendered import Rendered, read_rendered
from tasks.finetune.step.packed_attention import PackedRows
from tasks.render.forms import texts
from tasks.render.forms.texts import cut_into_pieces
from tasks.render.stage import run as render

TOKENIZER = make_tiny_tokenizer()
END = TOKENIZER.eos_token_id


def tokens_of(*given: str) -> list[list[int]]:
    rows = [{"row_id": str(n), "output": text} for n, text in enumerate(given)]
    return [ids.tolist() for _, ids in texts._encoder(TOKENIZER)(rows)]


TEXTS = st.lists(
    st.text(st.sampled_from("ab .,\n\t  城市7'<|>/é\u3000") | st.characters(codec="utf-8"), max_size=60)
    | st.sampled_from(["a<|endoftext|>b", "  ", "它叫城市7。她说<|endoftext|>", "one\n\n  two "]),
    max_size=5,
)


@given(given=TEXTS, length=st.integers(8, 20))
@settings(max_examples=200, deadline=None)
def test_the_pieces_join_to_the_text_again_and_end_once(given: list[str], length: int) -> None:
    for text, ids in zip(given, tokens_of(*given), strict=True):
        pieces = cut_into_pieces(np.array(ids, np.int32), length)
        assert all(2 <= len(piece) <= length for piece in pieces)
        joined = [int(token) for piece in pieces for token in piece]
        assert joined == (ids if text else [])
        assert ids.index(END) == len(ids) - 1
        assert TOKENIZER.decode(ids[:-1]) == text


@given(given=TEXTS, room=st.integers(4, 40))
@settings(max_examples=100, deadline=None)
def test_a_long_text_that_is_tokenised_in_stretches_is_the_same_text(given: list[str], room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "CHARACTERS_AT_ONCE", room)
        for text in given:
            stretches = texts._split_long(text)
            assert "".join(stretches) == text
            assert all(len(stretch) <= room for stretch in stretches)
        assert [TOKENIZER.decode(ids[:-1]) for ids in tokens_of(*given)] == given


def test_the_end_token_is_a_token_again_where_texts_are_done() -> None:
    tokens_of("a<|endoftext|>b")
    assert END in TOKENIZER("a<|endoftext|>b")["input_ids"]


def prepare(project: Path, base: Path, finetune: dict[str, Any], **sections: Any) -> PipelineConfig:
    write_params(project, params(base, [], finetune={"precision": "fp32", **finetune}, **sections))
    config = load_config()
    begin_round(config)
    write_texts_and_answers()
    curate(config)
    render(config)
    return config


def rows_in(rendered: Rendered) -> set[str]:
    return {row_id.decode() for row_id in rendered.ids}


ANSWERS = {row["row_id"] for row in toy_rows()}
PAGES = {row["row_id"] for row in text_rows(60)}


@pytest.fixture
def rendered_texts(project: Path, tiny_llama: Path) -> Rendered:
    lengths = {"max_length_tokens": 16, "pack_length_tokens": 32}
    prepare(project, tiny_llama, {"objective": "pretrain"}, render=lengths)
    return read_rendered("train", "texts")


def test_only_raw_text_is_trained_as_text(rendered_texts: Rendered) -> None:
    assert rows_in(rendered_texts) <= PAGES
    assert len(rows_in(rendered_texts)) > 20
    assert [path.name for path in paths.RENDERED.iterdir() if path.is_dir()] == ["texts"]


def test_every_token_of_a_text_is_trained_but_the_first_of_a_piece(rendered_texts: Rendered) -> None:
    assert bool(rendered_texts.loss_mask.all())
    packed = PackedRows(rendered_texts, learns_all=True)
    for number in range(len(packed)):
        row = packed[number]
        starts = np.cumsum(row["lengths"]) - row["lengths"]
        assert [place for place, is_learned in enumerate(row["loss_mask"]) if not is_learned] == starts.tolist()


def test_the_pieces_of_all_rows_hold_every_text_whole(rendered_texts: Rendered) -> None:
    result = {row_id: [] for row_id in rows_in(rendered_texts)}
    for (start, end), row_id in zip(itertools.pairwise(rendered_texts.examples), rendered_texts.ids, strict=True):
        result[row_id.decode()].append(rendered_texts.input_ids[start:end].tolist())
    known = {row["row_id"]: row["output"] for row in text_rows(60)}
    for row_id, pieces in result.items():
        *parts, last = sorted(pieces, key=lambda piece: piece[-1] == END)  # packed rows mix them, in any order
        assert last.index(END) == len(last) - 1
        assert not any(END in part for part in parts)
        orders = [[token for piece in (*order, last) for token in piece] for order in itertools.permutations(parts)]
        assert known[row_id] in [TOKENIZER.decode(whole[:-1]) for whole in orders]


def test_pieces_fill_the_packed_rows(rendered_texts: Rendered) -> None:
    sizes = [int(np.diff(rendered_texts.bounds(pack)).sum()) for pack in range(len(rendered_texts))]
    assert max(sizes) <= 32
    assert sum(sizes) / (32 * len(sizes)) > 0.95


def test_a_test_row_is_a_text_with_all_its_tokens(rendered_texts: Rendered) -> None:
    rows = pq.read_table(paths.RENDERED / "test.parquet").to_pylist()
    assert {row["row_id"] for row in rows} <= PAGES
    assert {row["kind"] for row in rows} == {"text"}
    for row in rows:
        assert TOKENIZER.decode(row["prompt_ids"][:-1]) == row["target"]
        assert row["prompt_ids"][-1] == END


def test_training_on_answers_after_raw_text_sees_no_raw_text(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama, {"before": [{"objective": "pretrain"}]})
    assert rows_in(read_rendered("train", "texts")) <= PAGES
    assert rows_in(read_rendered("train", "answers")) <= ANSWERS
    assert {row["row_id"] for row in pq.read_table(paths.RENDERED / "test.parquet").to_pylist()} <= ANSWERS


def test_training_on_answers_alone_learns_raw_text_as_an_answer(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama, {})
    assert rows_in(read_rendered("train", "answers")) & PAGES
