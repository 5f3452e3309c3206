"""A model behind an OpenAI-compatible endpoint: parallel requests with retries. Each answer is passed on as soon as it is there.

Why not the `openai` client: docs/decisions/0020-libraries-and-our-own-code.md.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tasks.errors import ConfigError, SourceError, one_line
from tasks.inference.connection import Completion, Connection
from tasks.inference.response import Response, completion_of, post, refusal_of, seconds_to_wait
from tasks.runtime.loopback import is_loopback
from tasks.runtime.redaction.settings import with_values

if TYPE_CHECKING:
    import httpx

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
OF_A_PROMPT = frozenset({400, 413, 422})
"""HTTP statuses that may be about one prompt, such as its length."""
RETRIED_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""HTTP statuses after which the server may answer later."""

Prompt = str | list[int]
"""A text, or, for completions, token ids."""
OnCompletion = Callable[[int, Completion], None]
"""Called with each completion as soon as it is there, and the index of its prompt; from one thread at a time. If it raises, no
further request begins."""


class Endpoint:
    """
    Args:
        refusals: statuses that give a completion with the reason as its `refusal`; all other refusals are errors.
    """

    def __init__(
        self,
        connection: Connection,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        refusals: Collection[int] = (),
    ) -> None:
        self.connection, self.refusals = connection, refusals
        self.first_pause_seconds = first_pause_seconds
        path = "chat/completions" if connection.api == "chat" else "completions"
        self.url = f"{with_values(connection.base_url, not_set).rstrip('/')}/{path}"
        self.shown_url = f"{connection.base_url.rstrip('/')}/{path}"

    def complete(self, prompts: Sequence[Prompt], on_completion: OnCompletion) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            ConfigError: the environment variable with the key is not set.
            SourceError: the endpoint refuses, or all attempts failed; `on_completion` was called with all earlier completions.
        """
        import httpx

        completions = [Completion("")] * len(prompts)
        lock = threading.Lock()
        stop = threading.Event()
        errors: list[BaseException] = []

        def request(index: int) -> None:
            if stop.is_set():
                return
            try:
                completions[index] = self._complete(client, prompts[index], stop)
                with lock:
                    on_completion(index, completions[index])
            except BaseException as error:
                errors.append(error)
                stop.set()  # the other requests would fail too, and might cost money
                raise

        timeout = httpx.Timeout(self.connection.timeout_seconds)
        with (
            # with trust_env, httpx opens a client for every proxy, and fails if one has an unknown scheme
            httpx.Client(headers=self._headers(), timeout=timeout, trust_env=not is_loopback(self.url)) as client,
            ThreadPoolExecutor(self.connection.parallel_requests) as threads,
        ):
            requests = [threads.submit(request, index) for index in range(len(prompts))]
            try:
                for future in requests:
                    future.result()
            except BaseException:
                stop.set()  # after Ctrl-C too: running requests end, waiting ones do not begin
                if errors:  # the first, not one of a thread that was stopped after it
                    raise errors[0] from None
                raise
        return completions

    def _headers(self) -> dict[str, str]:
        name = self.connection.api_key_env
        return {} if name is None else {"Authorization": f"Bearer {api_key(name)}"}

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        connection = self.connection
        content: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt}]} if connection.api == "chat" else {"prompt": prompt}
        )
        sampling = {"temperature": connection.temperature, "top_p": connection.top_p}
        sampling = {name: value for name, value in sampling.items() if value is not None}
        limits = {"max_tokens": connection.max_tokens}
        return {"model": connection.model, **content, **limits, **sampling, **connection.extra}

    def _complete(self, client: httpx.Client, prompt: Prompt, stop: threading.Event) -> Completion:
        """One completion, with a pause between attempts."""
        import httpx

        problem, attempts = "", self.connection.attempts
        for attempt in range(attempts):
            pause = None
            try:
                response = post(client, self.url, self._body(prompt), self.connection.timeout_seconds)
            except httpx.TimeoutException:
                problem = f"no complete answer within {self.connection.timeout_seconds:g} s (timeout_seconds)"
            except httpx.TransportError as error:
                problem = f"cannot be reached ({one_line(error) or type(error).__name__})"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise SourceError(
                    f"is not a valid address ({one_line(error)})", where=self.shown_url, fix="Correct base_url"
                ) from error
            else:
                if response.status == 200:
                    completion = completion_of(response)
                    if completion is not None:
                        return completion
                    problem = f"the response is not a completion: {one_line(response.text, 120)!r}"
                elif response.status in self.refusals:
                    return Completion("", refusal=refusal_of(response))
                elif response.status not in RETRIED_STATUSES:
                    raise SourceError(refusal_of(response), where=self.shown_url, fix=self._advice(response))
                else:
                    problem, pause = refusal_of(response), seconds_to_wait(response)
            if attempt + 1 < attempts and stop.wait(self._pause(attempt, pause)):
                break  # another thread failed; this answer is not needed any more
        fix = "Run again later: the answers so far are stored"
        raise SourceError(f"{problem}, {attempts} times", where=self.shown_url, fix=fix)

    def _pause(self, attempt: int, requested_seconds: float | None) -> float:
        """Seconds until the next attempt: as the server requests, else doubled each time, with jitter."""
        if requested_seconds is not None:
            return min(requested_seconds, LONGEST_PAUSE_SECONDS)
        return float(min(self.first_pause_seconds * 2**attempt, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0))

    def _advice(self, response: Response) -> str:
        if response.status in (401, 403):
            return "Correct the key in the environment variable of api_key_env"
        return "Correct base_url or model" if response.status == 404 else f"Correct {self.connection.owner}"


def api_key(name: str) -> str:
    """The key in an environment variable. Raises ConfigError if it is not set or cannot be in a header."""
    key = os.environ.get(name, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        problem = "is not set" if not key else "is not a key: it has characters that a header cannot have"
        raise ConfigError(problem, where=f"environment variable {name}", fix=f"Set it: export {name}=…")
    return key


def not_set(name: str) -> ConfigError:
    return ConfigError("is not set", where=f"environment variable {name}", fix=f"Set it: export {name}=…")
