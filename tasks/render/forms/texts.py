"""Form `texts`: raw text, every token trained. A long text becomes several pieces; none of it is left out.

A text starts with the tokenizer's begin token, which is not trained, and ends with the end token. Test texts have no begin token:
`evaluate` puts one before each piece that it scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tasks import paths
from tasks.base.heads import begin_ids
from tasks.chat.markers import TypedMarkers, control_tokens, control_tokens_as_text
from tasks.prompts.tokens.word_cache import Ids, WordTable
from tasks.render.forms.forms import FIXED, Material, Row, write_test_rows
from tasks.render.packing.arrays import ArrayWriter, FlatExamples, Piece, flatten
from tasks.render.row_store import Rows

Numbers = TypeVar("Numbers", bound=npt.NDArray[Any])
KIND = "text"
CHARACTERS_AT_ONCE = 2_000_000
"""Characters that are tokenised together; a longer text is tokenised in parts of this length."""


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    encode, length = _encoder(material.tokenizer), material.settings.max_length_tokens
    begin = np.array(begin_ids(material.tokenizer), np.int32)

    def make(portion: list[Row]) -> FlatExamples:
        pieces = []
        for row, ids in encode(portion):
            if len(ids) <= 1:  # only the end token
                material.drop(row["row_id"], "empty_text")
                continue
            whole, mask = np.concatenate([begin, ids]), np.ones(len(begin) + len(ids), np.uint8)
            mask[: len(begin)] = 0
            pieces_and_masks = zip(cut_into_pieces(whole, length), cut_into_pieces(mask, length), strict=True)
            pieces += [Piece(row["row_id"], part_ids, part_mask) for part_ids, part_mask in pieces_and_masks]
        return flatten(pieces)

    with ArrayWriter(paths.RENDERED / form / split) as gathered:
        for part_ids in material.map_rows(rows, make):
            gathered.add(part_ids)
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, one row per text: its score is the likelihood that a model assigns to it."""
    encode = _encoder(material.tokenizer)

    constant = {"kind": KIND, "prompt": "", "template": "", "before": "", "after": ""}

    def make(portion: list[Row]) -> list[Row]:
        return [
            {name: row[name] for name in FIXED} | constant | {"target": row["output"], "prompt_ids": ids}
            for row, ids in encode(portion)
        ]

    return write_test_rows(rows, material, make)


def cut_into_pieces(ids: Numbers, length: int) -> list[Numbers]:
    """The tokens (or their mask) in pieces of `length`, the last one shorter. No piece has a single token, which would have no
    context."""
    if len(ids) == 1:
        return []
    cuts = list(range(length, len(ids), length))
    if cuts and len(ids) - cuts[-1] == 1:
        cuts[-1] -= 1
    return np.split(ids, cuts)  # type: ignore[return-value]


def _encoder(tokenizer: Any) -> Callable[[list[Row]], Iterator[tuple[Row, Ids]]]:
    """A function that tokenises rows; the end token is last, and only there."""
    words, markers = WordTable(tokenizer), TypedMarkers(tokenizer, control_tokens(tokenizer))
    end = np.array([tokenizer.eos_token_id], np.int32)

    def ids_of(parts: list[str]) -> list[Ids]:
        with control_tokens_as_text(tokenizer):
            encoded = words.encode(parts)
        return [
            markers.encode_plain([text])[0] if markers.leak(ids) else ids
            for text, ids in zip(parts, encoded, strict=True)
        ]

    def encode(rows: list[Row]) -> Iterator[tuple[Row, Ids]]:
        for portion in _portions(rows):
            parts = [_split_long(row["output"]) for row in portion]
            encoded = iter(ids_of([part for text in parts for part in text]))
            for row, text in zip(portion, parts, strict=True):
                yield row, np.concatenate([*(next(encoded) for _ in text), end])

    return encode


def _portions(rows: list[Row]) -> Iterator[list[Row]]:
    """Groups of rows whose texts are tokenised together."""
    portion: list[Row] = []
    characters = 0
    for row in rows:
        if portion and characters + len(row["output"]) > CHARACTERS_AT_ONCE:
            yield portion
            portion, characters = [], 0
        portion.append(row)
        characters += len(row["output"])
    yield portion


def _split_long(text: str) -> list[str]:
    """A text of many megabytes in parts that are tokenised separately, split before a space between words where there is one."""
    parts = []
    while len(text) > CHARACTERS_AT_ONCE:
        end = text.rfind(" ", CHARACTERS_AT_ONCE // 2, CHARACTERS_AT_ONCE)
        end = end if end > 0 else CHARACTERS_AT_ONCE
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text]
