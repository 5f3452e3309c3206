"""Form `texts`: raw text, every token of it trained. A long text becomes several pieces; nothing of it is left out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import paths
from tasks.files import ParquetStream, replacing
from tasks.render.arrays import Gathered, Piece
from tasks.render.forms import CHUNK_ROWS, TEST_SCHEMA, Material
from tasks.render.words import Ids, WordTable
from tasks.rendered import TEST

KIND = "text"
CHARACTERS_AT_ONCE = 2_000_000
"""Tokenised together; a longer text is, in stretches of so many."""


def write(form: str, split: str, rows: pa.Table, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    length = material.settings.max_length_tokens
    with Gathered(paths.RENDERED / form / split) as gathered:
        for portion in _encoded(rows, material):
            pieces = [(row_id, piece) for row_id, ids in portion for piece in cut_into_pieces(ids, length)]
            gathered.add([Piece(row_id, piece, np.ones(len(piece), np.uint8)) for row_id, piece in pieces])
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: pa.Table, material: Material) -> int:
    """Writes test.parquet, a row a text: how likely a model finds it, is its score."""
    fixed = rows.select(["row_id", "batch", "family", "language"]).to_pylist()
    by_id = {row["row_id"]: row for row in fixed}
    texts = dict(zip(rows["row_id"].to_pylist(), rows["output"].to_pylist(), strict=True))
    written = 0
    with replacing(TEST) as path, ParquetStream(path, TEST_SCHEMA) as stream:
        for portion in _encoded(rows, material):
            table = []
            for row_id, ids in portion:
                told = {"kind": KIND, "prompt": "", "template": "", "before": "", "after": "", "target": texts[row_id]}
                table.append({**by_id[row_id], **told, "prompt_ids": ids})
            stream.write(pa.Table.from_pylist(table, TEST_SCHEMA))
            written += len(table)
    return written


def cut_into_pieces(ids: Ids, length: int) -> list[Ids]:
    """The tokens in pieces of `length`, the last one shorter. None is of one token alone, which would be learned from nothing."""
    if len(ids) == 1:
        return []
    cuts = list(range(length, len(ids), length))
    if cuts and len(ids) - cuts[-1] == 1:
        cuts[-1] -= 1
    return np.split(ids, cuts)


def _encoded(rows: pa.Table, material: Material) -> Iterator[list[tuple[str, Ids]]]:
    """Row ids and tokens, the end token last and nowhere else, a portion at a time."""
    words = WordTable(material.tokenizer)
    end = np.array([material.tokenizer.eos_token_id], np.int32)
    for chunk in rows.select(["row_id", "output"]).to_batches(max_chunksize=CHUNK_ROWS):
        for portion in _portions(chunk):
            stretches = [_stretches(text) for _, text in portion]
            with _special_tokens_as_text(material.tokenizer):
                encoded = iter(words.encode([stretch for text in stretches for stretch in text]))
            yield [
                (row_id, np.concatenate([*(next(encoded) for _ in text), end]))
                for (row_id, _), text in zip(portion, stretches, strict=True)
            ]
        material.progress.advance(chunk.num_rows)


def _portions(chunk: pa.RecordBatch) -> Iterator[list[tuple[str, str]]]:
    """Row ids and texts, few enough to be tokenised together."""
    portion: list[tuple[str, str]] = []
    characters = 0
    for row_id, text in zip(chunk["row_id"].to_pylist(), chunk["output"].to_pylist(), strict=True):
        if portion and characters + len(text) > CHARACTERS_AT_ONCE:
            yield portion
            portion, characters = [], 0
        portion.append((row_id, text))
        characters += len(text)
    yield portion


def _stretches(text: str) -> list[str]:
    """A text of many megabytes in stretches that are tokenised apart, cut before a space between words where there is one."""
    found = []
    while len(text) > CHARACTERS_AT_ONCE:
        place = text.rfind(" ", CHARACTERS_AT_ONCE // 2, CHARACTERS_AT_ONCE)
        place = place if place > 0 else CHARACTERS_AT_ONCE
        found.append(text[:place])
        text = text[place:]
    return [*found, text]


@contextlib.contextmanager
def _special_tokens_as_text(tokenizer: Any) -> Iterator[None]:
    """In it, a special token that stands in a text is text: a page that writes of `<|endoftext|>` does not end there."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        yield
        return
    before, fast.encode_special_tokens = fast.encode_special_tokens, True
    try:
        yield
    finally:
        fast.encode_special_tokens = before
