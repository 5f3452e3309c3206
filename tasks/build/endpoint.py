"""A model behind an OpenAI-compatible endpoint: asked in parallel, patiently, and each answer kept as soon as it is there."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tasks.build.generator import CutOff, Keep, keep_nothing
from tasks.build.settings import Generator as GeneratorSettings
from tasks.errors import ConfigError, SourceError, one_line
from tasks.runtime.loopback import is_loopback
from tasks.runtime.redaction.settings import with_values

if TYPE_CHECKING:
    import httpx

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
CUT_OFF = ("length", "content_filter")
"""Reasons to finish an answer before its end."""
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Statuses of a server that may answer later."""


class Endpoint:
    def __init__(self, settings: GeneratorSettings, first_pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        assert settings.base_url is not None
        self.settings = settings
        self.first_pause_seconds = first_pause_seconds
        path = "chat/completions" if settings.api == "chat" else "completions"
        self.url = f"{with_values(settings.base_url, _not_set).rstrip('/')}/{path}"
        self.shown_url = f"{settings.base_url.rstrip('/')}/{path}"

    def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
        """As Generator.complete.

        Raises:
            ConfigError: the environment variable with the key is not set.
            SourceError: the endpoint refuses, or was asked in vain as often as the settings say.
        """
        import httpx

        answers = [""] * len(prompts)
        lock = threading.Lock()
        stop = threading.Event()
        errors: list[BaseException] = []

        def ask(place: int) -> None:
            if stop.is_set():
                return
            try:
                answers[place] = self._ask(client, prompts[place], stop)
            except BaseException as error:
                errors.append(error)
                stop.set()  # the others would meet the same, and might cost
                raise
            with lock:
                keep(place, answers[place])

        timeout = httpx.Timeout(self.settings.timeout_seconds)
        with (
            # httpx makes a client for every proxy beforehand, and fails where it cannot use one
            httpx.Client(headers=self._headers(), timeout=timeout, trust_env=not is_loopback(self.url)) as client,
            ThreadPoolExecutor(self.settings.parallel_requests) as threads,
        ):
            waiting = [threads.submit(ask, place) for place in range(len(prompts))]
            try:
                for each in waiting:
                    each.result()
            except BaseException:
                stop.set()  # Ctrl-C too: what is under way ends, what waits does not begin
                if errors:  # the first, not that of a thread which was stopped for it
                    raise errors[0] from None
                raise
        return answers

    def _headers(self) -> dict[str, str]:
        name = self.settings.api_key_env
        if name is None:
            return {}
        key = os.environ.get(name, "").strip()
        if not key or not key.isascii():
            told = "is not set" if not key else "is no key: it holds characters that no header can"
            raise ConfigError(told, where=f"environment variable {name}", fix=f"Set it: export {name}=…")
        return {"Authorization": f"Bearer {key}"}

    def _body(self, prompt: str) -> dict[str, Any]:
        asked: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt}]} if self.settings.api == "chat" else {"prompt": prompt}
        )
        sampling = {"temperature": self.settings.temperature, "top_p": self.settings.top_p}
        return {"model": self.settings.model, **asked, "max_tokens": self.settings.max_tokens, **sampling}

    def _ask(self, client: httpx.Client, prompt: str, stop: threading.Event) -> str:
        """One answer, asked for again after a pause where the server may answer later."""
        import httpx

        told = ""
        for attempt in range(self.settings.attempts):
            pause = None
            try:
                response = client.post(self.url, json=self._body(prompt))
            except httpx.TransportError as error:
                told = f"cannot be reached ({one_line(error) or type(error).__name__})"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise SourceError(
                    f"cannot be asked ({one_line(error)})", where=self.shown_url, fix="Mend base_url"
                ) from error
            else:
                if response.status_code == 200:
                    text = _text_of(response)
                    if text is not None:
                        return text
                    told = f"answers with something that is no completion: {one_line(response.text, 120)!r}"
                elif response.status_code not in AGAIN:
                    raise SourceError(_refusal(response), where=self.shown_url, fix=_advice(response.status_code))
                else:
                    told, pause = _refusal(response), _retry_after(response)
            if attempt + 1 < self.settings.attempts and stop.wait(self._pause(attempt, pause)):
                break  # another thread met an error; this answer is not needed any more
        fix = "Run again later: what was answered is kept"
        raise SourceError(f"{told}, {self.settings.attempts} times", where=self.shown_url, fix=fix)

    def _pause(self, attempt: int, told_seconds: float | None) -> float:
        """Seconds until the next attempt: as the server says, else doubling, drawn so that threads do not return at once."""
        if told_seconds is not None:
            return min(told_seconds, LONGEST_PAUSE_SECONDS)
        return float(min(self.first_pause_seconds * 2**attempt, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0))


def _not_set(name: str) -> ConfigError:
    return ConfigError("is not set", where=f"environment variable {name}", fix=f"Set it: export {name}=…")


def _text_of(response: httpx.Response) -> str | None:
    """The completion's text, as CutOff where it was cut off; None where the response holds none."""
    try:
        choice = response.json()["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, LookupError, TypeError):
        return None
    if text is None:  # a model that was stopped before it said anything
        text = ""
    if not isinstance(text, str):
        return None
    return CutOff(text) if choice.get("finish_reason") in CUT_OFF else text


def _refusal(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        told = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, LookupError, TypeError):
        told = response.text
    return f"answers {response.status_code} ({one_line(told, 200)})"


def _advice(status: int) -> str:
    if status in (401, 403):
        return "Mend the key in the variable that api_key_env names"
    return "Mend base_url or model" if status == 404 else "Mend the recipe's generator"


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait: a number, or a date."""
    told = response.headers.get("retry-after")
    if told is None:
        return None
    try:
        return max(float(told), 0.0)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(told)
    except ValueError:
        return None
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment.tzinfo else None
