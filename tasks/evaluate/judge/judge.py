"""Judges pairs: each in both orders, from stored answers where there are any, within a budget."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tasks.errors import SourceError
from tasks.evaluate.judge.answer import parse_winner, response_format
from tasks.evaluate.judge.judgements import Judgement, Judgements
from tasks.evaluate.judge.model_files import judge_name
from tasks.evaluate.judge.pair import REFUSED, Pair, PairVerdict, combine_orders
from tasks.evaluate.judge.rubric import Rubric, rubric_of
from tasks.evaluate.judge.settings import JudgeSettings
from tasks.inference.connection import Completion, Connection
from tasks.inference.endpoint import FIRST_PAUSE_SECONDS, OF_A_PROMPT, Endpoint, api_key, not_set
from tasks.runtime.files import content_digest
from tasks.runtime.redaction.settings import with_values

if TYPE_CHECKING:
    from tasks.evaluate.judge.local import LocalModel

CONTINUE = "Continue: strop run --rejudge"

logger = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 30.0
REFUSED_SHARE, REFUSED_CALLS = 0.05, 4
"""The judge is given up when the endpoint refuses more prompts of a family than this share, and more than this number."""


class NotJudged(Exception):
    """Some of the pairs have no verdict: the budget is spent, or the endpoint failed. What was answered is stored."""


@dataclass(frozen=True)
class Cost:
    """What the verdicts took, in this run or an earlier one."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


class Judge:
    def __init__(
        self,
        settings: JudgeSettings,
        rubrics: Mapping[tuple[str, str], Rubric],
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        """
        Raises:
            ConfigError: an environment variable that the settings name is not set; there is no such local model.
        """
        self.settings, self.rubrics = settings, rubrics
        if settings.api_key_env is not None:
            api_key(settings.api_key_env)
        self._client: Endpoint | LocalModel
        self._identity: object
        """What gives the answers: stored ones are of the same model and server."""
        if settings.base_url is None:
            from tasks.evaluate.judge.local import LocalModel

            self._client = LocalModel(settings)
            self._identity = self._client.identity
            self.name = judge_name(settings, self._client.files.folder)
        else:
            self._client = Endpoint(connection_of(settings), first_pause_seconds, OF_A_PROMPT)
            self.name = settings.model
            self._identity = [settings.model, server_of(settings.base_url)]
        self._judgements = Judgements(settings.model)
        self._problem: str | None = None
        """Why no further call is made."""
        self._refused: set[str] = set()
        """Keys of the prompts that the endpoint refused in this run."""
        self.calls = self.tokens = 0
        """Of this run."""

    def judge(self, pairs: Sequence[Pair], what: str) -> tuple[list[PairVerdict], Cost]:
        """The verdict on each pair, and what they took.

        Args:
            what: the pairs, for the log: `qa`.

        Raises:
            NotJudged: an answer is missing.
        """
        prompts = [self._prompt(each) for pair in pairs for each in (pair, pair.swapped)]
        keys = [self._key(prompt) for prompt in prompts]
        self._complete(dict(zip(keys, prompts, strict=True)), what)
        verdicts = [self._verdict(*both) for both in zip(keys[::2], keys[1::2], strict=True)]
        return verdicts, self._cost(set(keys) - self._refused)

    def _verdict(self, first: str, second: str) -> PairVerdict:
        if not self._refused.isdisjoint((first, second)):
            return REFUSED
        return combine_orders(*(self._judgements.by_key[key].winner for key in (first, second)))

    def _complete(self, prompts: Mapping[str, str], what: str) -> None:
        """Stores the judge's answers to these prompts, by key."""
        missing = [key for key in prompts if key not in self._judgements.by_key and key not in self._refused]
        if not missing:
            return
        left = self.settings.budget.max_calls - self.calls
        if self._problem is None and len(missing) > left:
            raise NotJudged(
                f"{len(missing)} calls are needed, {max(left, 0)} are left of evaluate.judge.budget.max_calls. "
                f"Raise it. {CONTINUE}"
            )
        if self._problem is None:
            logger.info(f"evaluate: judge {self.settings.model}: {len(missing)} calls for {what}")
            self._call(missing, [prompts[key] for key in missing])
        if self._problem is not None:
            raise NotJudged(f"{self._problem}. {CONTINUE}")

    def _call(self, keys: Sequence[str], prompts: Sequence[str]) -> None:
        try:
            self._client.complete(prompts, self._store(keys))
        except SourceError as error:
            self._problem = f"{error.where}: {error.what}. {error.fix}"
        except _GivenUp as reason:
            self._problem = str(reason)

    def _store(self, keys: Sequence[str]) -> Callable[[int, Completion], None]:
        before, last_line = self.calls, time.monotonic()
        refused, allowed = 0, max(REFUSED_CALLS, REFUSED_SHARE * len(keys))

        def store(index: int, completion: Completion) -> None:
            nonlocal last_line, refused
            if completion.refusal is not None:
                self._refused.add(keys[index])
                refused += 1
                if refused > allowed:
                    raise _GivenUp(f"{self._client.shown_url}: {completion.refusal}, to {refused} prompts")
                return
            winner = None if completion.is_cut else parse_winner(completion.text)
            judgement = Judgement(winner, completion.prompt_tokens, completion.completion_tokens)
            self._judgements.add(keys[index], judgement)
            self.calls += 1
            self.tokens += judgement.prompt_tokens + judgement.completion_tokens
            if time.monotonic() - last_line >= LINE_EVERY_SECONDS:
                last_line = time.monotonic()
                logger.info(f"evaluate: judge {self.settings.model}: {self.calls - before} of {len(keys)} calls")
            if self.tokens > self.settings.budget.max_tokens:
                raise _GivenUp("evaluate.judge.budget.max_tokens is spent")

        return store

    def _prompt(self, pair: Pair) -> str:
        return rubric_of(self.rubrics, pair).prompt(pair)

    def _key(self, prompt: str) -> str:
        settings = self.settings
        request = [settings.max_answer_tokens, settings.temperature, settings.response_format]
        return content_digest([self._identity, request, prompt])[:32]

    def _cost(self, keys: Iterable[str]) -> Cost:
        used = [self._judgements.by_key[key] for key in keys]
        return Cost(len(used), sum(j.prompt_tokens for j in used), sum(j.completion_tokens for j in used))


class _GivenUp(Exception):
    """No further call is made: the budget is spent, or the endpoint refuses too many prompts."""


def server_of(base_url: str) -> str:
    """The address of a server without user, password and parameters."""
    parts = urlsplit(str(with_values(base_url, not_set)))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def connection_of(settings: JudgeSettings) -> Connection:
    assert settings.base_url is not None
    return Connection(
        settings.base_url,
        settings.model,
        "evaluate.judge",
        api_key_env=settings.api_key_env,
        max_tokens=settings.max_answer_tokens,
        temperature=settings.temperature,
        timeout_seconds=settings.timeout_seconds,
        attempts=settings.attempts,
        parallel_requests=settings.parallel_requests,
        extra=response_format(settings.response_format),
    )
