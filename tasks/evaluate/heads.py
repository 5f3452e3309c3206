"""Test rows put to a head: which label a text has, or which of two answers is the better."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.base.heads import head_logits
from tasks.base.precision import precision_of
from tasks.errors import ConfigError
from tasks.evaluate.inference import BATCHES_A_PORTION, Model
from tasks.evaluate.perplexity import answer_losses, example_of, reads_at_once
from tasks.evaluate.prediction_cache import Remembered, model_key, recalled, row_key
from tasks.evaluate.predictions import Asking, Row, score_row, score_rows
from tasks.runtime.files import read_json

COMMONEST = paths.RENDERED / "labels" / "commonest.json"
BETTER, WORSE, NEITHER = "the better", "the worse", "neither"


def ask_labels(model: Model, asking: Asking) -> tuple[str, list[Row]]:
    """The label with the highest logit. The base has no head: it says the commonest label of the training rows of the family,
    which is what there is to beat."""
    labels = model.contender.labels
    if model.contender.role == "base":
        commonest = read_json(COMMONEST)
        return "commonest label of the training rows", score_rows(
            asking.test, [commonest.get(r["family"], "") for r in asking.test]
        )
    assert labels is not None, "whoever was trained has labels.json, or was refused as another kind of model"
    found = _head(model, asking, [row["prompt_ids"] for row in asking.test], asking.progress.advance)
    best = [max(range(len(labels)), key=lambda i: logits[i]) for logits in found]
    return "label with the highest logit", score_rows(asking.test, [labels[place] for place in best])


def ask_preferences(model: Model, asking: Asking) -> tuple[str, list[Row]]:
    """Which of two answers scores higher; 0.5 where neither does. The base has no head: it prefers the answer whose tokens it
    finds likelier, on average."""
    columns = ("chosen_ids", "rejected_ids")
    sequences = [row[name] for name in columns for row in asking.test]
    if model.contender.role == "base":
        prompts = [len(row["prompt_ids"]) for _ in columns for row in asking.test]
        way, values = "mean log-probability of a token", _likelihoods(model, asking, sequences, prompts)
    else:
        logits = _head(model, asking, sequences, lambda count: asking.progress.advance(count / 2))
        way, values = "reward of each answer", [value for (value,) in logits]
    rows = []
    for row, better, worse in zip(asking.test, values[: len(asking.test)], values[len(asking.test) :], strict=True):
        is_right, is_wrong = better > worse, worse > better
        said = BETTER if is_right else WORSE if is_wrong else NEITHER
        rows.append(score_row(row, said, 1.0 if is_right else 0.0 if is_wrong else 0.5, exact=is_right))
    return way, rows


def _head(model: Model, asking: Asking, sequences: list[Any], on_rows: Any) -> list[list[float]]:
    """What the model's head says of each sequence of tokens."""
    name = model_key("head", asking.base_digest, model.contender.digest, precision_of(asking.settings.precision))
    return recalled(
        Remembered(name, pa.list_(pa.float64())),
        [row_key(ids) for ids in sequences],
        sequences,
        lambda some: head_logits(_reading(model, some), some, asking.settings.batch_rows),
        size=len,
        portion=asking.settings.batch_rows * BATCHES_A_PORTION,
        on_rows=on_rows,
    )


def _likelihoods(model: Model, asking: Asking, sequences: list[Any], prompts: list[int]) -> list[float]:
    """The mean log-probability of the tokens of each answer."""
    examples = [example_of(ids, prompt) for ids, prompt in zip(sequences, prompts, strict=True)]
    name = model_key("mean", asking.base_digest, model.contender.digest, precision_of(asking.settings.precision))

    def ask(some: list[Any]) -> list[float]:
        loaded = _reading(model, [ids for ids, _ in some])
        return [-loss / max(tokens, 1) for loss, tokens in answer_losses(loaded, some)]

    return recalled(
        Remembered(name, pa.float64()),
        [row_key(ids, mask) for ids, mask in examples],
        examples,
        ask,
        size=lambda example: len(example[0]),
        portion=asking.settings.batch_rows * BATCHES_A_PORTION,
        on_rows=lambda count: asking.progress.advance(count / 2),
    )


def _reading(model: Model, sequences: list[Any]) -> Any:
    """The model, which must be able to read them."""
    loaded = model()
    longest, positions = max(len(ids) for ids in sequences), reads_at_once(loaded)
    if positions is not None and longest > positions:
        what = f"a test row has {longest} tokens, and the {model.contender.role} reads {positions}"
        raise ConfigError(what, where="render.max_length_tokens", fix=f"Lower it to {positions}")
    return loaded
