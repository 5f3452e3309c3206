"""A rendered request → the body of vLLM's `/v1/completions`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.serve.engine.request import RequestRejected, Sampling

LEAST_TEMPERATURE = 1e-4
"""A lower one is greedy decoding, as in the embedded engine (choose.py)."""
MOST_LOGPROBS = 20
"""vLLM's own limit, `--max-logprobs`."""


def is_shared(sampling: Sampling) -> bool:
    """Whether all choices of a request are one answer: vLLM refuses `n` with greedy decoding."""
    return sampling.temperature < LEAST_TEMPERATURE


def completion_body(
    model: str,
    prompt: Sequence[int],
    sampling: Sampling,
    max_tokens: int,
    ends: Iterable[int],
    *,
    choices: int = 1,
    repetition_penalty: float = 1.0,
    streams: bool = True,
) -> dict[str, Any]:
    """The body of a request for token ids.

    Everything that the server could take from a `generation_config.json` of the base is set: Qwen's has a top_k and a penalty.

    Args:
        repetition_penalty: of the version's own generation config.

    Raises:
        RequestRejected: a value that the server does not support.
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": [*prompt],
        "max_tokens": max_tokens,
        "temperature": 0.0 if is_shared(sampling) else sampling.temperature,
        "top_p": 1.0 if is_shared(sampling) else sampling.top_p,
        "top_k": -1,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": repetition_penalty,
        "stop_token_ids": sorted(ends),
        "skip_special_tokens": False,
        "return_token_ids": True,
        "stream": streams,
    }
    if choices > 1 and not is_shared(sampling):
        body["n"] = choices
    if sampling.seed is not None and not is_shared(sampling):
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = [*sampling.stop]
    if sampling.logprobs is not None:
        if sampling.logprobs > MOST_LOGPROBS:
            what = f"the engine reports at most {MOST_LOGPROBS} log probabilities beside a token"
            raise RequestRejected("unsupported_value", what, "logprobs")
        body |= {"logprobs": sampling.logprobs, "return_tokens_as_token_ids": True}
    if sampling.json_schema is not None:
        body["response_format"] = _response_format(sampling.json_schema)
    return body


def _response_format(schema: str) -> dict[str, Any]:
    """Of vLLM and SGLang, which compile it to a grammar; `guided_json` is gone from vLLM 0.12."""
    try:
        document = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise RequestRejected("invalid_schema", "the JSON schema is not JSON", "json_schema") from error
    if not document:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": document, "strict": True}}
