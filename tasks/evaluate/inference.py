"""Generated answers to test rows and losses on validation rows, computed only for rows that are not cached."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import torch

from tasks.base.generation import Answer, generate_answers
from tasks.base.precision import precision_of
from tasks.errors import BaseModelError, ConfigError
from tasks.evaluate.models import ModelSpec
from tasks.evaluate.perplexity import Example, Loss, answer_losses, max_input_tokens
from tasks.evaluate.prediction_cache import PredictionCache, model_key, row_key
from tasks.evaluate.settings import EvaluateSettings
from tasks.runtime.progress import Progress
from tasks.runtime.threads import Threads

BATCHES_A_PORTION = 4
"""Batches generated between two saves of the cache, at least."""
ANSWER = pa.struct([("text", pa.string()), ("is_cut", pa.bool_())])
LOSS = pa.struct([("loss", pa.float64()), ("tokens", pa.int64())])


class LazyModel:
    """A model that is loaded at its first use and freed by `release`."""

    def __init__(self, spec: ModelSpec, threads: Threads) -> None:
        self.spec, self.threads = spec, threads
        self._loaded: Any = None

    def __call__(self) -> Any:
        if self._loaded is None:
            self._loaded = self.spec.load()
            self.threads.follow(self._loaded)
        return self._loaded

    def release(self) -> None:
        if self._loaded is None:
            return
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def open_model(spec: ModelSpec, settings: EvaluateSettings, threads: Threads) -> Iterator[LazyModel]:
    """The model, freed at the end, so that only one is in memory. It uses as many threads as there are free cores."""
    model = LazyModel(spec, threads)
    try:
        yield model
    except torch.OutOfMemoryError as error:
        raise BaseModelError(
            f"the GPU's memory is not enough for the {spec.role} with {settings.batch_rows} rows at once",
            where="evaluate",
            fix="Lower evaluate.batch_rows"
            + (", or set evaluate.precision: bf16" if settings.precision != "bf16" else ""),
        ) from error
    finally:
        model.release()


def answer_prompts(
    model: LazyModel,
    tokenizer: Any,
    base_digest: str,
    prompts: list[list[int]],
    settings: EvaluateSettings,
    progress: Progress,
) -> list[Answer]:
    """The model's answers, in the order of the prompts."""
    key = model_key(
        "answers", base_digest, model.spec.digest, precision_of(settings.precision), settings.max_new_tokens
    )
    cache = PredictionCache(key, ANSWER)
    keys = [row_key(prompt) for prompt in prompts]
    # equal prompts are computed once; sorted by length, so that batches have little padding
    new = sorted({k: p for k, p in zip(keys, prompts, strict=True) if k not in cache.values}.items(), key=_by_length)
    progress.advance(len(prompts) - len(new))
    if new:
        _require_context_length(model(), tokenizer, max(len(prompt) for _, prompt in new), settings)
    size = settings.batch_rows * BATCHES_A_PORTION
    for start in range(0, len(new), size):
        portion = new[start : start + size]
        answers = generate_answers(
            model(),
            tokenizer,
            [prompt for _, prompt in portion],
            max_new_tokens=settings.max_new_tokens,
            batch_rows=settings.batch_rows,
            on_batch=progress.advance,
        )
        cache.add(dict(zip((k for k, _ in portion), (answer._asdict() for answer in answers), strict=True)))
    if new:
        cache.save()
    return [Answer(**cache.values[k]) for k in keys]


def measure_losses(
    model: LazyModel, base_digest: str, examples: list[Example], settings: EvaluateSettings, progress: Progress
) -> list[Loss]:
    """The model's loss on each validation example."""
    cache = PredictionCache(model_key("losses", base_digest, model.spec.digest, precision_of(settings.precision)), LOSS)
    keys = [row_key(ids, mask) for ids, mask in examples]
    new = {k: example for k, example in zip(keys, examples, strict=True) if k not in cache.values}
    progress.advance(len(examples) - len(new))
    if new:
        losses = answer_losses(model(), list(new.values()), on_batch=progress.advance)
        computed = [{"loss": loss, "tokens": tokens} for loss, tokens in losses]
        cache.add(dict(zip(new, computed, strict=True)))
        cache.save()
    values = [cache.values[k] for k in keys]
    return [(value["loss"], value["tokens"]) for value in values]


def _by_length(item: tuple[str, list[int]]) -> tuple[int, str]:
    return -len(item[1]), item[0]


def _require_context_length(model: Any, tokenizer: Any, longest_prompt: int, settings: EvaluateSettings) -> None:
    """Raises ConfigError if prompt and answer exceed the context: a model fails there, or its answers are nonsense."""
    positions = max_input_tokens(model)
    if positions is not None and longest_prompt + settings.max_new_tokens > positions:
        raise ConfigError(
            f"a prompt of {longest_prompt} tokens and an answer of up to {settings.max_new_tokens} exceed the "
            f"context of {positions} tokens",
            where="evaluate.max_new_tokens",
            fix="Lower it, or render.max_length_tokens",
        )
