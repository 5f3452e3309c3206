"""How likely a model finds the test texts: bits a byte, which can be compared whatever the tokenizer. Nothing is generated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.base.heads import begin_ids
from tasks.base.precision import precision_of
from tasks.evaluate.inference import Model
from tasks.evaluate.perplexity import answer_losses, example_of, reads_at_once
from tasks.evaluate.prediction_cache import Remembered, model_key, recalled, row_key
from tasks.evaluate.predictions import Asking, Row, bytes_of, score_row

PIECE_TOKENS = 1024
"""Longest piece that a text is read in, also by a model that reads more at once."""
TEXTS_A_PORTION = 32


def ask_texts(model: Model, asking: Asking) -> tuple[str, list[Row]]:
    """The score of a text is 2 ** -(its bits a UTF-8 byte): from 0 to 1, and the same for a text twice as long.

    A text is read in pieces, each behind what texts begin with, so that its first token counts too.
    """
    start = start_ids(asking.tokenizer)
    texts = [row["prompt_ids"] for row in asking.test]
    name = model_key(
        "texts",
        asking.base_digest,
        model.contender.digest,
        precision_of(asking.settings.precision),
        start,
        PIECE_TOKENS,
    )
    nats = recalled(
        Remembered(name, pa.float64()),
        [row_key(ids) for ids in texts],
        texts,
        lambda some: text_losses(model(), some, start),
        size=len,
        portion=TEXTS_A_PORTION,
        on_rows=asking.progress.advance,
    )
    rows = []
    for row, loss in zip(asking.test, nats, strict=True):
        bits = loss / math.log(2)
        a_byte = bits / max(bytes_of(row["target"]), 1)
        rows.append(score_row(row, f"{a_byte:.3f} bits a byte", 2.0**-a_byte) | {"bits": bits})
    return "likelihood", rows


def start_ids(tokenizer: Any) -> list[int]:
    """What stands before a text: what the tokenizer begins texts with; where that is nothing, its begin token or its end token."""
    if begin := begin_ids(tokenizer):
        return begin
    return [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]


def text_losses(model: Any, texts: list[list[int]], start: list[int]) -> list[float]:
    """The summed negative log likelihood (nats) of each text's tokens."""
    length = min(PIECE_TOKENS, reads_at_once(model) or PIECE_TOKENS) - len(start)
    pieces = [
        (place, example_of([*start, *ids[first : first + length]], len(start)))
        for place, ids in enumerate(texts)
        for first in range(0, len(ids), length)
    ]
    losses = np.zeros(len(texts))
    for (place, _), (loss, _) in zip(pieces, answer_losses(model, [piece for _, piece in pieces]), strict=True):
        losses[place] += loss
    found: list[float] = losses.tolist()
    return found
