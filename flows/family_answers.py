"""Answers to requests of a task family: prompt and reading of the answer as in evaluation. For `strop generate --family`.

answers = answer_requests(loaded, "topic", [Request({"text": "The match ended 2:1."})], Options())
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from flows.inference import Sampling
from flows.load_model import LoadedModel
from tasks.base.generation import Answer
from tasks.base.heads import REWARD, head_logits
from tasks.errors import RegistryError
from tasks.evaluate.perplexity import max_input_tokens
from tasks.inference.embedded import EmbeddedEngine
from tasks.inference.engine import LogitsNotFinite
from tasks.inference.faults import reported_faults
from tasks.inference.sampling import sample_answers
from tasks.prompts.family_prompts import FamilyPrompt, FamilyPrompts
from tasks.prompts.request_fields import RequestError
from tasks.runtime.threads import Threads

BATCH_ROWS = 32


@dataclass(frozen=True)
class Request:
    fields: Mapping[str, Any]
    template: str | None = None
    """The id of its template; None: that of the options."""
    where: str | None = None
    """Its place, for an error."""


@dataclass(frozen=True)
class Options:
    template: str | None = None
    thinks: bool | None = None
    shortens: bool = False
    sampling: Sampling | None = None
    """None: greedy, with as many tokens as in evaluation."""


def answer_requests(
    loaded: LoadedModel, family: str, requests: Sequence[Request], options: Options
) -> list[dict[str, Any]]:
    """The answer to each request, in order: `read` and `value` are what evaluation would read.

    Raises:
        RequestError: a family, template or field is unknown or missing, or a prompt is too long. Nothing was generated.
        RegistryError: the version has no templates.
    """
    if "families" not in loaded.templates:
        what = f"{loaded.name} has no templates.json, so its prompts are not known"
        raise RegistryError(what, fix='Ask it without a family: strop generate "…"')
    prompts = FamilyPrompts(loaded.tokenizer, loaded.templates, max_input_tokens(loaded.model))
    limit = 0 if loaded.labels else options.sampling.max_tokens if options.sampling else loaded.max_new_tokens
    rendered = [_prompt_of(prompts, family, request, options, limit) for request in requests]
    memory_fix, nan_fix = "Give fewer rows at once", "Use another version: strop history"
    with reported_faults(loaded.name, where="generate", memory_fix=memory_fix, nan_fix=nan_fix):
        results = _of_head(loaded, rendered) if loaded.labels else _generated(loaded, rendered, limit, options.sampling)
    facts = {"model": loaded.name, "version": loaded.version, "family": family}
    return [
        facts | {"template": prompt.template, "is_shortened": prompt.is_shortened} | result
        for prompt, result in zip(rendered, results, strict=True)
    ]


def _prompt_of(
    prompts: FamilyPrompts, family: str, request: Request, options: Options, answer_tokens: int
) -> FamilyPrompt:
    try:
        return prompts.of(
            family,
            request.fields,
            request.template or options.template,
            thinks=options.thinks,
            answer_tokens=answer_tokens,
            shortens=options.shortens,
        )
    except RequestError as error:
        if request.where is None:
            raise
        raise error.at(request.where) from error


def _of_head(loaded: LoadedModel, prompts: Sequence[FamilyPrompt]) -> list[dict[str, Any]]:
    logits_of_rows = head_logits(loaded.model, [prompt.ids for prompt in prompts], BATCH_ROWS)
    if not all(math.isfinite(value) for logits in logits_of_rows for value in logits):
        raise LogitsNotFinite
    if loaded.labels == REWARD:
        return [{"reward": logits[0]} for logits in logits_of_rows]
    results = []
    for logits in logits_of_rows:
        probabilities = torch.tensor(logits).softmax(0).tolist()
        shares = sorted(zip(loaded.labels or (), probabilities, strict=True), key=lambda pair: -pair[1])
        label, probability = shares[0]
        results.append({"label": label, "probability": probability, "labels": dict(shares)})
    return results


def _generated(
    loaded: LoadedModel, prompts: Sequence[FamilyPrompt], limit: int, sampling: Sampling | None
) -> list[dict[str, Any]]:
    ids, positions = [prompt.ids for prompt in prompts], max_input_tokens(loaded.model)
    answers: dict[int, Answer] = {}
    if sampling is None or sampling.temperature == 0:
        engine = EmbeddedEngine(
            loaded.model,
            loaded.tokenizer,
            stage="generate",
            rows=BATCH_ROWS,
            threads=Threads("generate", is_quiet=True),
            positions=positions,
        )
        engine.generate(ids, limit, answers.update)
    else:
        chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        sample_answers(
            loaded.model, loaded.tokenizer, ids, limit,
            rows=BATCH_ROWS, seed=sampling.seed, positions=positions, sampling=chosen, on_answers=answers.update,
        )  # fmt: skip
    return [_result(prompt, answers[index]) for index, prompt in enumerate(prompts)]


def _result(prompt: FamilyPrompt, answer: Answer) -> dict[str, Any]:
    read = prompt.reader.read(answer.text)
    parsed = {"kind": read.kind, "read": read.text, "value": read.as_json, "is_unparsed": read.is_unparsed}
    return {**parsed, "answer": answer.text, "is_cut": answer.is_cut}
