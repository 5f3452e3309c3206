"""What a server answers to token ids: to the rows of a check by the path on which it serves, and to the rows of a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import SourceError
from tasks.scoring.read_answer import AnswerReader
from tasks.serve.engine.remote import RemoteEngine
from tasks.serve.engine.remote_request import completion_body
from tasks.serve.engine.remote_tokens import TOKEN_ID
from tasks.serve.engine.rendering import Rendered
from tasks.serve.engine.request import EngineBusy, EngineFailed, EngineLost, RequestRejected, Sampling
from tasks.serve.served_path.comparison import ServerAnswer
from tasks.serve.served_path.rows import CheckRow

PARALLEL_REQUESTS = 32
ATTEMPTS = 5
PROBE_TOKENS = 16
PROBE_TOP = 5
READER = AnswerReader("free")
"""The answer as it is: it is read by the kind of its row when it is scored."""


@dataclass(frozen=True)
class ServerProbe:
    """What the server computed for one prompt."""

    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    first: dict[int, float]
    """Its most probable first tokens."""


async def answers_to(engine: RemoteEngine, rows: Sequence[CheckRow], max_new_tokens: int) -> list[ServerAnswer]:
    """The greedy answer to each row.

    Raises:
        SourceError: the server fails.
    """
    places = asyncio.Semaphore(PARALLEL_REQUESTS)
    context = engine.facts.context_tokens or 1 << 30

    async def answer(row: CheckRow) -> ServerAnswer:
        limit = min(max_new_tokens, context - len(row.prompt_ids))
        if limit < 1:
            return ServerAnswer("", True, f"its context is {context} tokens")
        async with places:
            return await _answer(engine, Rendered(row.prompt_ids, READER, len(row.prompt_ids) + limit), limit)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(row)) for row in rows]
    except* SourceError as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _answer(engine: RemoteEngine, rendered: Rendered, limit: int) -> ServerAnswer:
    problem: Exception = EngineLost()
    for attempt in range(ATTEMPTS):
        try:
            finished = await engine.complete(rendered, Sampling(), limit)
        except RequestRejected as error:
            return ServerAnswer("", False, str(error))
        except EngineBusy as error:
            await asyncio.sleep(error.retry_after)
            problem = error
        except (EngineLost, EngineFailed) as error:
            problem = error
            await asyncio.sleep(0.2 * attempt)
        else:
            return ServerAnswer(finished.text, finished.reason == "length")
    what = f"the server does not answer a test row, in {ATTEMPTS} attempts ({problem})"
    raise SourceError(what, where=engine.server.client.base_url, fix="See the log of the server")


async def probe_prompt(engine: RemoteEngine, model: str, prompt: Sequence[int], tokens: int) -> ServerProbe:
    """The first tokens of the greedy answer of a model of the server.

    Args:
        model: the name of the version, or of the base.

    Raises:
        SourceError: it fails, or does not report its tokens.
    """
    decoding = engine.decoding
    body = completion_body(
        model,
        prompt,
        Sampling(logprobs=PROBE_TOP),
        tokens,
        decoding.ends,
        repetition_penalty=decoding.repetition_penalty,
        streams=False,
    )
    where = engine.server.client.base_url
    try:
        document = await engine.server.client.complete(body)
        return _probe_of([*prompt], document["choices"][0]["logprobs"])
    except (EngineLost, EngineFailed, EngineBusy, RequestRejected) as error:
        fix = "See the log of the server"
        raise SourceError(f"the server refuses the probe ({error})", where=where, fix=fix) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        what = "does not report its tokens with their log probabilities (`logprobs`, `return_tokens_as_token_ids`)"
        raise SourceError(what, where=where, fix="Use a server that does, such as vLLM") from error


def _probe_of(prompt: list[int], logprobs: Any) -> ServerProbe:
    tokens = [_token(name) for name in logprobs["tokens"]]
    values = [float(value) for value in logprobs["token_logprobs"]]
    first = {_token(name): float(value) for name, value in logprobs["top_logprobs"][0].items()}
    if len(tokens) != len(values) or not tokens:
        raise ValueError
    return ServerProbe(prompt, tokens, values, first)


def _token(name: str) -> int:
    match = TOKEN_ID.fullmatch(name)
    if match is None:
        raise ValueError
    return int(match[1])
