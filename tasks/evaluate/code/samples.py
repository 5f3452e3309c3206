"""Sampled answers to the rows with tests, for pass@k. They are cached, as greedy answers are."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tasks.base.precision import precision_of
from tasks.evaluate.inference import LazyModel
from tasks.evaluate.perplexity import max_input_tokens
from tasks.evaluate.prediction_cache import PredictionCache, model_key, row_key
from tasks.evaluate.predictions import EvaluationTask
from tasks.inference.sampling import sample_answers

TEXTS = pa.list_(pa.string())


def sample_code(model: LazyModel, task: EvaluationTask, row_ids: Sequence[str]) -> dict[str, list[str]]:
    """Row id → its sampled answers. They depend on the seed, the model and the row, not on other rows."""
    settings, code = task.settings, task.settings.code
    sampling = {"temperature": code.temperature, "top_p": code.top_p}
    batch = min(code.samples, settings.batch_rows)
    inputs = (precision_of(settings.precision), settings.max_new_tokens, code.samples, batch, settings.seed, sampling)
    cache = PredictionCache(model_key("code samples", task.base_digest, model.spec.digest, *inputs), TEXTS)
    prompts = {row["row_id"]: row["prompt_ids"] for row in task.test}
    try:
        for row_id in row_ids:
            prompt = prompts[row_id]
            if (key := row_key(prompt)) not in cache.values:
                cache.add({key: _sample(model, task, prompt, batch, sampling)})
    finally:
        cache.save()
    return {row_id: cache.values[row_key(prompts[row_id])] for row_id in row_ids}


def _sample(
    model: LazyModel, task: EvaluationTask, prompt: Sequence[int], batch: int, sampling: dict[str, float]
) -> list[str]:
    settings, texts = task.settings, dict[int, str]()
    for start in range(0, settings.code.samples, batch):
        size = min(batch, settings.code.samples - start)
        sample_answers(
            model(),
            task.tokenizer,
            [prompt] * size,
            settings.max_new_tokens,
            rows=size,
            seed=settings.seed + start,  # a batch each: the seed of a batch depends on its prompts only
            positions=max_input_tokens(model()),
            sampling=sampling,
            on_answers=lambda answers, start=start: texts.update({start + i: a.text for i, a in answers.items()}),  # type: ignore[misc]
        )
    return [texts[index] for index in range(settings.code.samples)]
