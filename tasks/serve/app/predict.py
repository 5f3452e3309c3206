"""`/v1/predict`: the fields of a task family, rendered with the version's own template, and the answer as evaluation reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tasks.serve.app.body import parse
from tasks.serve.app.call import Call
from tasks.serve.app.exchange import Exchange, Job
from tasks.serve.app.sampling import Common, Name, require_within, sampling_of
from tasks.serve.app.writer import Writer
from tasks.serve.engine.request import TaskPrompt

REWARD = "reward"


class PredictBody(Common):
    model: Name = ""
    family: Name
    fields_: Annotated[dict[str, Any], Field(alias="fields")]
    template: Name | None = None
    truncate: bool = False
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    json_schema: dict[str, Any] | None = None


def read_predict(document: Mapping[str, Any], call: Call) -> tuple[Job, PredictWriter]:
    """Raises ApiError for a request that is not valid."""
    body = parse(PredictBody, document, {}, {"n", "stream", "tools", "messages", "prompt"})
    require_within(call.gateway.settings.limits, body.max_tokens, 1)
    prompt = TaskPrompt(body.family, body.fields_, body.template, body.truncate)
    schema = None if body.json_schema is None else json.dumps(body.json_schema, ensure_ascii=False)
    sampling = sampling_of(body, body.max_tokens, body.logprobs, schema)
    job = Job(call.path, body.model, prompt, sampling, body.unit(call.caller.name, prompt), 1, body.metadata)
    return job, PredictWriter(body.family, has_logprobs=body.logprobs is not None)


class PredictWriter(Writer):
    def __init__(self, family: str, *, has_logprobs: bool) -> None:
        self.family, self.has_logprobs = family, has_logprobs

    def body(self, exchange: Exchange) -> dict[str, Any]:
        (answer,) = exchange.answers
        labels = exchange.route.engine.facts.labels
        body = {
            **self.head(exchange, "prediction"),
            "version": exchange.route.version,
            "family": self.family,
            "template": exchange.started.template,
            "value": answer.value,
            "answer": answer.text,
            "is_unparsed": answer.is_unparsed,
            "is_cut": answer.reason == "length",
            "is_shortened": exchange.started.is_shortened,
            "usage": exchange.usage,
        }
        if labels == (REWARD,):
            body["value"] = body["reward"] = answer.scores.get(REWARD)
        elif labels is not None:
            label = next(iter(answer.scores), None)
            body |= {"value": label, "label": label, "probabilities": dict(answer.scores)}
        if self.has_logprobs:
            tokens = exchange.logprobs.get(0, ())
            body["logprobs"] = [{"token": t.text, "logprob": t.logprob, "top": dict(t.top)} for t in tokens]
        return body
