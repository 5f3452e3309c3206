"""What each model answers to the test rows, and how surprised it is by the validation rows; asked only what is new."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import torch

from tasks.base.generation import generate_answers
from tasks.base.precision import precision_of
from tasks.errors import BaseModelError, ConfigError
from tasks.evaluate.models import Contender
from tasks.evaluate.perplexity import Example, Loss, answer_losses, reads_at_once
from tasks.evaluate.prediction_cache import Remembered, model_key, row_key
from tasks.evaluate.settings import EvaluateSettings
from tasks.runtime.progress import Progress
from tasks.runtime.threads import Threads

BATCHES_A_PORTION = 4
"""Batches generated between two looks at the clock: what a crash can cost."""
LOSS = pa.struct([("loss", pa.float64()), ("tokens", pa.int64())])


class Model:
    """A contender, loaded at the first question that it was not asked before, and let go by `released`."""

    def __init__(self, contender: Contender, threads: Threads) -> None:
        self.contender, self.threads = contender, threads
        self._loaded: Any = None

    def __call__(self) -> Any:
        if self._loaded is None:
            self._loaded = self.contender.load()
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
def one_at_a_time(contender: Contender, settings: EvaluateSettings, threads: Threads) -> Iterator[Model]:
    """The model, released at the end, so that never two are in memory. It answers with as many threads as there are free cores."""
    model = Model(contender, threads)
    try:
        yield model
    except torch.OutOfMemoryError as error:
        raise BaseModelError(
            f"the GPU's memory is not enough for the {contender.role} with {settings.batch_rows} rows at once",
            where="evaluate",
            fix="Lower evaluate.batch_rows"
            + (", or set evaluate.precision: bf16" if settings.precision != "bf16" else ""),
        ) from error
    finally:
        model.release()


def answer_prompts(
    model: Model,
    tokenizer: Any,
    base_digest: str,
    prompts: list[list[int]],
    settings: EvaluateSettings,
    progress: Progress,
) -> list[str]:
    """The model's answers, in the prompts' order."""
    key = model_key(
        "answers", base_digest, model.contender.digest, precision_of(settings.precision), settings.max_new_tokens
    )
    remembered = Remembered(key, pa.string())
    keys = [row_key(prompt) for prompt in prompts]
    # equal prompts are asked once; by length, so that the batches of a portion have little padding
    new = sorted(
        {k: p for k, p in zip(keys, prompts, strict=True) if k not in remembered.values}.items(), key=_by_length
    )
    progress.advance(len(prompts) - len(new))
    if new:
        _require_room(model(), tokenizer, max(len(prompt) for _, prompt in new), settings)
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
        remembered.add(dict(zip((k for k, _ in portion), answers, strict=True)))
    if new:
        remembered.save()
    return [remembered.values[k] for k in keys]


def measure_losses(
    model: Model, base_digest: str, examples: list[Example], settings: EvaluateSettings, progress: Progress
) -> list[Loss]:
    """The model's loss on each validation example."""
    remembered = Remembered(
        model_key("losses", base_digest, model.contender.digest, precision_of(settings.precision)), LOSS
    )
    keys = [row_key(ids, mask) for ids, mask in examples]
    new = {k: example for k, example in zip(keys, examples, strict=True) if k not in remembered.values}
    progress.advance(len(examples) - len(new))
    if new:
        losses = answer_losses(model(), list(new.values()), on_batch=progress.advance)
        told = [{"loss": loss, "tokens": tokens} for loss, tokens in losses]
        remembered.add(dict(zip(new, told, strict=True)))
        remembered.save()
    values = [remembered.values[k] for k in keys]
    return [(value["loss"], value["tokens"]) for value in values]


def _by_length(item: tuple[str, list[int]]) -> tuple[int, str]:
    return -len(item[1]), item[0]


def _require_room(model: Any, tokenizer: Any, longest_prompt: int, settings: EvaluateSettings) -> None:
    """A model with learned positions fails past the last one, and others answer nonsense there."""
    positions = reads_at_once(model)
    if positions is not None and longest_prompt + settings.max_new_tokens > positions:
        raise ConfigError(
            f"a prompt of {longest_prompt} tokens and an answer of up to {settings.max_new_tokens} pass the "
            f"{positions} positions of the model",
            where="evaluate.max_new_tokens",
            fix="Lower it, or render.max_length_tokens",
        )
