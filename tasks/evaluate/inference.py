"""Generated answers to test rows and losses on validation rows, computed only for rows that are not cached."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from tasks.base.generation import Answer, end_token_ids
from tasks.base.precision import precision_of
from tasks.errors import ConfigError
from tasks.evaluate.models import ModelSpec
from tasks.evaluate.perplexity import Example, Loss, answer_losses, max_input_tokens
from tasks.evaluate.prediction_cache import PredictionCache, model_key, row_key
from tasks.evaluate.served_model import PROBES, ServedModel, decoding_of, engine_key, read_facts, serve, write_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.inference.devices import DevicesEngine, gpus
from tasks.inference.embedded import EmbeddedEngine
from tasks.inference.faults import reported_faults
from tasks.runtime.files import write_json
from tasks.runtime.progress import Progress
from tasks.runtime.threads import Threads

BATCHES_A_PORTION = 4
"""Batches of a model with a head between two saves of the cache, at least."""
ANSWER = pa.struct([("text", pa.string()), ("is_cut", pa.bool_())])
NAN_FIXES = {
    "base": "Set another base.model, or evaluate.precision: fp32",
    "champion": "Set evaluate.precision: fp32, or return to an earlier version: strop rollback",
}
"""What to do if a model computes NaN."""
LOSS = pa.struct([("loss", pa.float64()), ("tokens", pa.int64())])


class LazyModel:
    """A model that is loaded at its first use and freed by `release`. Its server, if it has one, runs in place of it."""

    def __init__(self, spec: ModelSpec, threads: Threads) -> None:
        self.spec, self.threads = spec, threads
        self._loaded: Any = None
        self.served: ServedModel | None = None
        self.facts: dict[str, Any] | None = None
        """What metrics.json says about the server that generated its answers; None: the embedded engine did."""

    def __call__(self) -> Any:
        if self._loaded is None:
            self.release()  # of the server: a GPU has memory for one of both
            self._loaded = self.spec.load()
            self.threads.follow(self._loaded)
        return self._loaded

    def release(self) -> None:
        if self.served is not None:
            self.served.close()
            self.served = None
        self.free()

    def free(self) -> None:
        """Frees the weights; its server goes on."""
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
    memory_fix = "Lower evaluate.batch_rows" + ("" if torch.cuda.is_available() else " or evaluate.processes")
    if torch.cuda.is_available() and settings.precision != "bf16":
        memory_fix += ", or set evaluate.precision: bf16"
    nan_fix = NAN_FIXES.get(spec.role, "Lower finetune.learning_rate and train again")
    try:
        with reported_faults(f"the {spec.role}", where="evaluate", memory_fix=memory_fix, nan_fix=nan_fix):
            yield model
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
        "answers",
        base_digest,
        model.spec.digest,
        precision_of(settings.precision),
        settings.max_new_tokens,
        *engine_key(model.spec.role, settings.engine),
    )
    cache = PredictionCache(key, ANSWER)
    if settings.engine is not None and read_facts(cache.facts_path) is None:
        cache.clear()  # answers of an unknown server
    of_key = {row_key(prompt): prompt for prompt in prompts}  # equal prompts once
    if settings.engine is not None and any(k not in cache.values for k in of_key):
        _open_server(model, tokenizer, list(of_key.values()), settings, cache)
    new = {k: prompt for k, prompt in of_key.items() if k not in cache.values}
    progress.advance(len(prompts) - len(new))
    if new:
        _generate(model, tokenizer, new, cache, settings, progress)
    if settings.engine is not None:
        model.facts = read_facts(cache.facts_path)
    return [Answer(**cache.values[row_key(prompt)]) for prompt in prompts]


def _generate(
    model: LazyModel,
    tokenizer: Any,
    prompts: dict[str, list[int]],
    cache: PredictionCache,
    settings: EvaluateSettings,
    progress: Progress,
) -> None:
    """Adds the model's answers to the cache, by the key of their prompt; finished ones are kept if it fails."""
    keys = list(prompts)
    engine = model.served or _own_engine(model, tokenizer, len(prompts), settings)
    _require_context_length(engine.positions, max(map(len, prompts.values())), settings)

    def keep(answers: dict[int, Answer]) -> None:
        cache.add({keys[index]: answer._asdict() for index, answer in answers.items()})
        progress.advance(len(answers))

    try:
        engine.generate(list(prompts.values()), settings.max_new_tokens, keep)
    finally:
        cache.save()


def _own_engine(
    model: LazyModel, tokenizer: Any, rows: int, settings: EvaluateSettings
) -> EmbeddedEngine | DevicesEngine:
    """The embedded engine: on all GPUs, if there are several and enough rows for them."""
    embedded = _embedded(model, tokenizer, settings)
    devices = gpus()
    if len(devices) < 2 or rows < 2 * settings.batch_rows:
        return embedded
    ends, positions = end_token_ids(embedded.model, tokenizer), embedded.positions
    del embedded
    model.free()  # each process loads the weights
    return DevicesEngine(model.spec.load, tokenizer, devices, ends, "evaluate", settings.batch_rows, positions)


def _embedded(model: LazyModel, tokenizer: Any, settings: EvaluateSettings) -> EmbeddedEngine:
    loaded = model()
    return EmbeddedEngine(
        loaded,
        tokenizer,
        stage="evaluate",
        rows=settings.batch_rows,
        threads=model.threads,
        processes=settings.processes,
        positions=max_input_tokens(loaded),
    )


def _open_server(
    model: LazyModel, tokenizer: Any, prompts: list[list[int]], settings: EvaluateSettings, cache: PredictionCache
) -> None:
    """Opens the model's server, and forgets cached answers of another version of it."""
    if model.served is None:
        assert settings.engine is not None
        embedded = _embedded(model, tokenizer, settings)
        _require_context_length(embedded.positions, max(map(len, prompts)), settings)
        decoding = decoding_of(embedded.model, tokenizer, model.spec.role)
        probes, positions = prompts[:PROBES], embedded.positions
        expected = embedded.generate(probes, settings.max_new_tokens)
        del embedded  # or its weights would stay beside those of the server

        def write(folder: Path) -> None:
            write_model(model(), tokenizer, decoding, folder)
            model.free()

        precision, role = precision_of(settings.precision), model.spec.role
        model.served = serve(role, settings.engine, tokenizer, precision, decoding, positions, write)
        model.served.compare(probes, settings.max_new_tokens, expected)
    cached = read_facts(cache.facts_path)
    if cached is None or cached["version"] != model.served.facts["version"]:
        cache.clear()
        write_json(cache.facts_path, model.served.facts)


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


def _require_context_length(positions: int | None, longest_prompt: int, settings: EvaluateSettings) -> None:
    """Raises ConfigError if prompt and answer exceed the context: a model fails there, or its answers are nonsense."""
    if positions is not None and longest_prompt + settings.max_new_tokens > positions:
        raise ConfigError(
            f"a prompt of {longest_prompt} tokens and an answer of up to {settings.max_new_tokens} exceed the "
            f"context of {positions} tokens",
            where="evaluate.max_new_tokens",
            fix="Lower it, or render.max_length_tokens",
        )
