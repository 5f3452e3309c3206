"""The likelihood of the test texts in bits per byte, which does not depend on the tokenizer. Nothing is generated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.base.heads import begin_ids
from tasks.base.precision import precision_of
from tasks.evaluate.inference import LazyModel
from tasks.evaluate.perplexity import answer_losses, example_of, max_input_tokens
from tasks.evaluate.prediction_cache import PredictionCache, cached_values, model_key, row_key
from tasks.evaluate.predictions import EvaluationTask, Row, bytes_of, score_row

PIECE_TOKENS = 1024
"""Longest piece of a text in one forward pass, also for models with a longer context."""
TEXTS_A_PORTION = 32


def score_texts(model: LazyModel, task: EvaluationTask) -> tuple[str, list[Row]]:
    """Scores each text as 2 ** -(bits per UTF-8 byte): from 0 to 1, independent of its length.

    A text is split into pieces, each after the start tokens, so that its first token is scored too.
    """
    start = start_ids(task.tokenizer)
    texts = [row["prompt_ids"] for row in task.test]
    name = model_key(
        "texts",
        task.base_digest,
        model.spec.digest,
        precision_of(task.settings.precision),
        start,
        PIECE_TOKENS,
    )
    nats = cached_values(
        PredictionCache(name, pa.float64()),
        [row_key(ids) for ids in texts],
        texts,
        lambda batch: text_losses(model(), batch, start),
        size=len,
        portion=TEXTS_A_PORTION,
        on_rows=task.progress.advance,
    )
    rows = []
    for row, loss in zip(task.test, nats, strict=True):
        bits = loss / math.log(2)
        a_byte = bits / max(bytes_of(row["target"]), 1)
        rows.append(score_row(row, f"{a_byte:.3f} bits a byte", 2.0**-a_byte) | {"bits": bits})
    return "likelihood", rows


def start_ids(tokenizer: Any) -> list[int]:
    """The tokens before a text: those that the tokenizer adds; if it adds none, its begin token or else its end token."""
    if begin := begin_ids(tokenizer):
        return begin
    return [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]


def text_losses(model: Any, texts: list[list[int]], start: list[int]) -> list[float]:
    """The sum of negative log likelihoods (nats) of each text's tokens."""
    length = min(PIECE_TOKENS, max_input_tokens(model) or PIECE_TOKENS) - len(start)
    pieces = [
        (index, example_of([*start, *ids[first : first + length]], len(start)))
        for index, ids in enumerate(texts)
        for first in range(0, len(ids), length)
    ]
    losses = np.zeros(len(texts))
    for (index, _), (loss, _) in zip(pieces, answer_losses(model, [piece for _, piece in pieces]), strict=True):
        losses[index] += loss
    sums: list[float] = losses.tolist()
    return sums
