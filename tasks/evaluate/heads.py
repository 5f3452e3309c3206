"""Predictions of models with a head: the label of a text, or the better one of two answers."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.base.heads import head_logits
from tasks.base.precision import precision_of
from tasks.errors import ConfigError
from tasks.evaluate.inference import BATCHES_A_PORTION, LazyModel
from tasks.evaluate.perplexity import answer_losses, example_of, max_input_tokens
from tasks.evaluate.prediction_cache import PredictionCache, cached_values, model_key, row_key
from tasks.evaluate.predictions import EvaluationTask, Row, score_row, score_rows
from tasks.inference.engine import LogitsNotFinite
from tasks.runtime.files import read_json
from tasks.scoring.calibration import highest_probability

MOST_COMMON = paths.RENDERED / "labels" / "commonest.json"
BETTER, WORSE, NEITHER = "the better", "the worse", "neither"


def predict_labels(model: LazyModel, task: EvaluationTask) -> tuple[str, list[Row]]:
    """Predicts the label with the highest logit. The base has no head: its prediction is the most common label of the family's
    training rows, as a baseline."""
    labels = model.spec.labels
    if model.spec.role == "base":
        most_common = read_json(MOST_COMMON)
        return "commonest label of the training rows", score_rows(
            task.test, [most_common.get(r["family"], "") for r in task.test]
        )
    assert labels is not None, "a trained model has labels.json, or was refused as another kind of model"
    logits_of_rows = _head(model, task, [row["prompt_ids"] for row in task.test], task.progress.advance)
    best = [max(range(len(labels)), key=lambda i: logits[i]) for logits in logits_of_rows]
    rows = score_rows(task.test, [labels[index] for index in best])
    return "label with the highest logit", [
        row | {"confidence": highest_probability(logits)} for row, logits in zip(rows, logits_of_rows, strict=True)
    ]


def predict_preferences(model: LazyModel, task: EvaluationTask) -> tuple[str, list[Row]]:
    """Predicts which of two answers has the higher reward; a tie scores 0.5. The base has no head: it prefers the answer with the
    higher mean log-probability of its tokens."""
    columns = ("chosen_ids", "rejected_ids")
    sequences = [row[name] for name in columns for row in task.test]
    if model.spec.role == "base":
        prompts = [len(row["prompt_ids"]) for _ in columns for row in task.test]
        method, values = "mean log-probability of a token", _likelihoods(model, task, sequences, prompts)
    else:
        logits = _head(model, task, sequences, lambda count: task.progress.advance(count / 2))
        method, values = "reward of each answer", [value for (value,) in logits]
    rows = []
    for row, better, worse in zip(task.test, values[: len(task.test)], values[len(task.test) :], strict=True):
        is_correct, is_wrong = better > worse, worse > better
        prediction = BETTER if is_correct else WORSE if is_wrong else NEITHER
        rows.append(score_row(row, prediction, 1.0 if is_correct else 0.0 if is_wrong else 0.5, exact=is_correct))
    return method, rows


def _head(model: LazyModel, task: EvaluationTask, sequences: list[Any], on_rows: Any) -> list[list[float]]:
    """The logits of the model's head for each token sequence."""
    name = model_key("head", task.base_digest, model.spec.digest, precision_of(task.settings.precision))
    return cached_values(
        PredictionCache(name, pa.list_(pa.float64())),
        [row_key(ids) for ids in sequences],
        sequences,
        lambda batch: _finite(head_logits(_model_for(model, batch), batch, task.settings.batch_rows)),
        size=len,
        portion=task.settings.batch_rows * BATCHES_A_PORTION,
        on_rows=on_rows,
    )


def _finite(logits: list[list[float]]) -> list[list[float]]:
    if not all(math.isfinite(value) for values in logits for value in values):
        raise LogitsNotFinite
    return logits


def _likelihoods(model: LazyModel, task: EvaluationTask, sequences: list[Any], prompts: list[int]) -> list[float]:
    """The mean log-probability of each answer's tokens."""
    examples = [example_of(ids, prompt) for ids, prompt in zip(sequences, prompts, strict=True)]
    name = model_key("mean", task.base_digest, model.spec.digest, precision_of(task.settings.precision))

    def compute(batch: list[Any]) -> list[float]:
        loaded = _model_for(model, [ids for ids, _ in batch])
        return [-loss / max(tokens, 1) for loss, tokens in answer_losses(loaded, batch)]

    return cached_values(
        PredictionCache(name, pa.float64()),
        [row_key(ids, mask) for ids, mask in examples],
        examples,
        compute,
        size=lambda example: len(example[0]),
        portion=task.settings.batch_rows * BATCHES_A_PORTION,
        on_rows=lambda count: task.progress.advance(count / 2),
    )


def _model_for(model: LazyModel, sequences: list[Any]) -> Any:
    """The loaded model, if its context is long enough for the sequences.

    Raises:
        ConfigError: a sequence is too long.
    """
    loaded = model()
    longest, positions = max(len(ids) for ids in sequences), max_input_tokens(loaded)
    if positions is not None and longest > positions:
        what = f"a test row has {longest} tokens, but the context of the {model.spec.role} is {positions}"
        raise ConfigError(what, where="render.max_length_tokens", fix=f"Lower it to {positions}")
    return loaded
