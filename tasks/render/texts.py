"""Form `texts`: raw text, every token of it trained. A long text becomes several pieces; nothing of it is left out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import paths
from tasks.files import write_tables
from tasks.render.arrays import Flat, Gathered, Piece, flat
from tasks.render.forms import FIXED, TEST_SCHEMA, Material, Row
from tasks.render.rows import Rows
from tasks.render.words import Ids, WordTable
from tasks.rendered import TEST

KIND = "text"
CHARACTERS_AT_ONCE = 2_000_000
"""Tokenised together; a longer text is, in stretches of so many."""


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    words, length = WordTable(material.tokenizer), material.settings.max_length_tokens

    def make(portion: list[Row]) -> Flat:
        pieces = []
        for row, ids in _encoded(portion, words):
            cut = cut_into_pieces(ids, length)
            if not cut:
                material.drop(row["row_id"], "empty_text")
            pieces += [Piece(row["row_id"], piece, np.ones(len(piece), np.uint8)) for piece in cut]
        return flat(pieces)

    with Gathered(paths.RENDERED / form / split) as gathered:
        for some in material.made_of(rows, make):
            gathered.add(some)
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, a row a text: how likely a model finds it, is its score."""
    words = WordTable(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        table = []
        for row, ids in _encoded(portion, words):
            told = {"kind": KIND, "prompt": "", "template": "", "before": "", "after": "", "target": row["output"]}
            table.append({name: row[name] for name in FIXED} | told | {"prompt_ids": ids})
        return pa.Table.from_pylist(table, TEST_SCHEMA)

    return write_tables(TEST, TEST_SCHEMA, material.made_of(rows, make))


def cut_into_pieces(ids: Ids, length: int) -> list[Ids]:
    """The tokens in pieces of `length`, the last one shorter. None is of one token alone, which would be learned from nothing."""
    if len(ids) == 1:
        return []
    cuts = list(range(length, len(ids), length))
    if cuts and len(ids) - cuts[-1] == 1:
        cuts[-1] -= 1
    return np.split(ids, cuts)


def _encoded(rows: list[Row], words: WordTable) -> Iterator[tuple[Row, Ids]]:
    """Rows and their tokens, the end token last and nowhere else."""
    end = np.array([words.tokenizer.eos_token_id], np.int32)
    for portion in _portions(rows):
        stretches = [_stretches(row["output"]) for row in portion]
        with _special_tokens_as_text(words.tokenizer):
            encoded = iter(words.encode([stretch for text in stretches for stretch in text]))
        for row, text in zip(portion, stretches, strict=True):
            yield row, np.concatenate([*(next(encoded) for _ in text), end])


def _portions(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows whose texts are few enough to be tokenised together."""
    portion: list[Row] = []
    characters = 0
    for row in rows:
        if portion and characters + len(row["output"]) > CHARACTERS_AT_ONCE:
            yield portion
            portion, characters = [], 0
        portion.append(row)
        characters += len(row["output"])
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
