"""Seconds per answer and tokens per second, measured one answer at a time on a fixed sample of the test rows, and their cost.

Off by default: a time is a fact about one run on one machine. It is in metrics.json, which the receipt records as a circumstance,
and in no number of a verdict (tasks/gate/limits.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.base.generation import Answer
from tasks.evaluate.inference import LazyModel
from tasks.evaluate.perplexity import max_input_tokens
from tasks.evaluate.settings import EvaluateSettings
from tasks.inference.embedded import EmbeddedEngine

SECONDS_PER_HOUR = 3600
Measured = dict[str, Any]


def measure_times(
    model: LazyModel, tokenizer: Any, prompts: Sequence[list[int]], settings: EvaluateSettings
) -> Measured:
    """`latency` of the model and, with a price, `cost`; nothing if it is off, or there are no prompts."""
    if not settings.latency_rows or not prompts:
        return {}
    loaded, sample = model(), choose_sample(prompts, settings.latency_rows)
    engine = EmbeddedEngine(
        loaded,
        tokenizer,
        stage="evaluate",
        rows=1,
        threads=model.threads,
        processes=1,
        positions=max_input_tokens(loaded),
    )
    ends: list[float] = []
    finished: list[Answer] = []

    def note(answers: dict[int, Answer]) -> None:
        ends.append(time.perf_counter())
        finished.extend(answers.values())

    engine.generate([sample[0], *sample], settings.max_new_tokens, note)  # the first answer warms up
    seconds = np.diff(np.array(ends))
    tokens = [generated_tokens(answer, tokenizer, settings.max_new_tokens) for answer in finished[1:]]
    return describe_times(seconds.tolist(), tokens, settings.price_per_hour)


def choose_sample(prompts: Sequence[list[int]], rows: int) -> list[list[int]]:
    """Prompts of all lengths, the longest first: evenly spaced in the order of their length and content."""
    ordered = sorted(prompts, key=lambda prompt: (-len(prompt), prompt))
    count = min(rows, len(ordered))
    return [ordered[index * len(ordered) // count] for index in range(count)]


def generated_tokens(answer: Answer, tokenizer: Any, limit: int) -> int:
    """The tokens of an answer with its end token. A cut one has as many as the limit, whatever its text."""
    return limit if answer.is_cut else len(tokenizer(answer.text, add_special_tokens=False)["input_ids"]) + 1


def describe_times(seconds: Sequence[float], tokens: Sequence[int], price_per_hour: float | None) -> Measured:
    """The entries of metrics.json."""
    rates = [count / max(each, 1e-9) for each, count in zip(seconds, tokens, strict=True)]
    latency = {"rows": len(seconds), "answer_s": _spread(seconds), "tokens_per_s": _spread(rates)}
    if price_per_hour is None:
        return {"latency": latency}
    price = float(np.mean(seconds)) * 1000 / SECONDS_PER_HOUR * price_per_hour
    return {"latency": latency, "cost": {"per_1000_answers": _rounded(price)}}


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.quantile(np.array(values), (0.05, 0.5, 0.95)).tolist()
    return {"p5": _rounded(low), "median": _rounded(median), "p95": _rounded(high)}


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
