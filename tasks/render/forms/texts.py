"""Form `texts`: raw text, every token of it trained. A long text becomes several pieces; nothing of it is left out.

A text begins with what the tokenizer begins texts with (a begin token), which is not trained, and ends with the end token. Test
texts are kept without the begin token: `evaluate` sets one before each piece that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks import paths
from tasks.base.heads import begin_ids
from tasks.chat.markers import TypedMarkers, control_tokens, control_tokens_as_text
from tasks.dataset.rendered import TEST
from tasks.render.forms.forms import FIXED, TEST_SCHEMA, Material, Row
from tasks.render.packing.arrays import Flat, Gathered, Piece, flat
from tasks.render.row_store import Rows
from tasks.render.tokens.word_cache import Ids, WordTable
from tasks.runtime.files import write_tables

Numbers = TypeVar("Numbers", bound=npt.NDArray[Any])
KIND = "text"
CHARACTERS_AT_ONCE = 2_000_000
"""Tokenised together; a longer text is, in stretches of so many."""


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    encode, length = _encoder(material.tokenizer), material.settings.max_length_tokens
    begin = np.array(begin_ids(material.tokenizer), np.int32)

    def make(portion: list[Row]) -> Flat:
        pieces = []
        for row, ids in encode(portion):
            if len(ids) <= 1:  # an end alone is no text
                material.drop(row["row_id"], "empty_text")
                continue
            whole, mask = np.concatenate([begin, ids]), np.ones(len(begin) + len(ids), np.uint8)
            mask[: len(begin)] = 0
            cut = zip(cut_into_pieces(whole, length), cut_into_pieces(mask, length), strict=True)
            pieces += [Piece(row["row_id"], some, of_mask) for some, of_mask in cut]
        return flat(pieces)

    with Gathered(paths.RENDERED / form / split) as gathered:
        for some in material.made_of(rows, make):
            gathered.add(some)
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, a row a text: how likely a model finds it, is its score."""
    encode = _encoder(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        table = []
        for row, ids in encode(portion):
            told = {"kind": KIND, "prompt": "", "template": "", "before": "", "after": "", "target": row["output"]}
            table.append({name: row[name] for name in FIXED} | told | {"prompt_ids": ids})
        return pa.Table.from_pylist(table, TEST_SCHEMA)

    return write_tables(TEST, TEST_SCHEMA, material.made_of(rows, make))


def cut_into_pieces(ids: Numbers, length: int) -> list[Numbers]:
    """The tokens (or their mask) in pieces of `length`, the last one shorter. None is of one token alone, which would be learned
    from nothing."""
    if len(ids) == 1:
        return []
    cuts = list(range(length, len(ids), length))
    if cuts and len(ids) - cuts[-1] == 1:
        cuts[-1] -= 1
    return np.split(ids, cuts)  # type: ignore[return-value]


def _encoder(tokenizer: Any) -> Callable[[list[Row]], Iterator[tuple[Row, Ids]]]:
    """What tokenises rows: their tokens, the end token last and nowhere else."""
    words, markers = WordTable(tokenizer), TypedMarkers(tokenizer, control_tokens(tokenizer))
    end = np.array([tokenizer.eos_token_id], np.int32)

    def ids_of(stretches: list[str]) -> list[Ids]:
        with control_tokens_as_text(tokenizer):
            encoded = words.encode(stretches)
        return [
            markers.encode_plain([text])[0] if markers.leak(ids) else ids
            for text, ids in zip(stretches, encoded, strict=True)
        ]

    def encode(rows: list[Row]) -> Iterator[tuple[Row, Ids]]:
        for portion in _portions(rows):
            stretches = [_stretches(row["output"]) for row in portion]
            encoded = iter(ids_of([stretch for text in stretches for stretch in text]))
            for row, text in zip(portion, stretches, strict=True):
                yield row, np.concatenate([*(next(encoded) for _ in text), end])

    return encode


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
