"""A model behind an OpenAI-compatible endpoint: parallel requests with retries. Each answer is passed on as soon as it is there.

Why not the `openai` client: docs/decisions/0020-libraries-and-our-own-code.md.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tasks.build.generator import CutOff, OnAnswer, ignore_answer
from tasks.build.settings import Generator as GeneratorSettings
from tasks.errors import ConfigError, SourceError, one_line
from tasks.runtime.loopback import is_loopback
from tasks.runtime.redaction.settings import with_values

if TYPE_CHECKING:
    import httpx

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
CUT_OFF = ("length", "content_filter")
"""Finish reasons of an incomplete answer."""
RETRIED_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""HTTP statuses after which the server may answer later."""


class Endpoint:
    def __init__(self, settings: GeneratorSettings, first_pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        assert settings.base_url is not None
        self.settings = settings
        self.first_pause_seconds = first_pause_seconds
        path = "chat/completions" if settings.api == "chat" else "completions"
        self.url = f"{with_values(settings.base_url, _not_set).rstrip('/')}/{path}"
        self.shown_url = f"{settings.base_url.rstrip('/')}/{path}"

    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        """As Generator.complete.

        Raises:
            ConfigError: the environment variable with the key is not set.
            SourceError: the endpoint refuses, or all attempts of the settings failed.
        """
        import httpx

        answers = [""] * len(prompts)
        lock = threading.Lock()
        stop = threading.Event()
        errors: list[BaseException] = []

        def request(index: int) -> None:
            if stop.is_set():
                return
            try:
                answers[index] = self._answer(client, prompts[index], stop)
            except BaseException as error:
                errors.append(error)
                stop.set()  # the other requests would fail too, and might cost money
                raise
            with lock:
                on_answer(index, answers[index])

        timeout = httpx.Timeout(self.settings.timeout_seconds)
        with (
            # with trust_env, httpx opens a client for every proxy, and fails if one has an unknown scheme
            httpx.Client(headers=self._headers(), timeout=timeout, trust_env=not is_loopback(self.url)) as client,
            ThreadPoolExecutor(self.settings.parallel_requests) as threads,
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
        return answers

    def _headers(self) -> dict[str, str]:
        name = self.settings.api_key_env
        if name is None:
            return {}
        key = os.environ.get(name, "").strip()
        if not key or not key.isascii():
            problem = "is not set" if not key else "is not a key: it has characters that a header cannot have"
            raise ConfigError(problem, where=f"environment variable {name}", fix=f"Set it: export {name}=…")
        return {"Authorization": f"Bearer {key}"}

    def _body(self, prompt: str) -> dict[str, Any]:
        content: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt}]} if self.settings.api == "chat" else {"prompt": prompt}
        )
        sampling = {"temperature": self.settings.temperature, "top_p": self.settings.top_p}
        return {"model": self.settings.model, **content, "max_tokens": self.settings.max_tokens, **sampling}

    def _answer(self, client: httpx.Client, prompt: str, stop: threading.Event) -> str:
        """One answer, with a pause between attempts."""
        import httpx

        problem = ""
        for attempt in range(self.settings.attempts):
            pause = None
            try:
                response = client.post(self.url, json=self._body(prompt))
            except httpx.TransportError as error:
                problem = f"cannot be reached ({one_line(error) or type(error).__name__})"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise SourceError(
                    f"is not a valid address ({one_line(error)})", where=self.shown_url, fix="Correct base_url"
                ) from error
            else:
                if response.status_code == 200:
                    text = _text_of(response)
                    if text is not None:
                        return text
                    problem = f"the response is not a completion: {one_line(response.text, 120)!r}"
                elif response.status_code not in RETRIED_STATUSES:
                    raise SourceError(_refusal(response), where=self.shown_url, fix=_advice(response.status_code))
                else:
                    problem, pause = _refusal(response), _retry_after(response)
            if attempt + 1 < self.settings.attempts and stop.wait(self._pause(attempt, pause)):
                break  # another thread failed; this answer is not needed any more
        fix = "Run again later: the answers so far are stored"
        raise SourceError(f"{problem}, {self.settings.attempts} times", where=self.shown_url, fix=fix)

    def _pause(self, attempt: int, requested_seconds: float | None) -> float:
        """Seconds until the next attempt: as the server requests, else doubled each time, with jitter."""
        if requested_seconds is not None:
            return min(requested_seconds, LONGEST_PAUSE_SECONDS)
        return float(min(self.first_pause_seconds * 2**attempt, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0))


def _not_set(name: str) -> ConfigError:
    return ConfigError("is not set", where=f"environment variable {name}", fix=f"Set it: export {name}=…")


def _text_of(response: httpx.Response) -> str | None:
    """The completion's text, as CutOff if it is incomplete; None if the response is not a completion."""
    try:
        choice = response.json()["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, LookupError, TypeError):
        return None
    if text is None:  # a model that was stopped before its first token
        text = ""
    if not isinstance(text, str):
        return None
    return CutOff(text) if choice.get("finish_reason") in CUT_OFF else text


def _refusal(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        message = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, LookupError, TypeError):
        message = response.text
    return f"answers {response.status_code} ({one_line(message, 200)})"


def _advice(status: int) -> str:
    if status in (401, 403):
        return "Correct the key in the environment variable of api_key_env"
    return "Correct base_url or model" if status == 404 else "Correct the recipe's generator"


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds until the time in the header: a number, or a date."""
    header = response.headers.get("retry-after")
    if header is None:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment.tzinfo else None
