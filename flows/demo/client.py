"""A client of a server of Strop: OpenAI's, or httpx with the same requests where that is not installed.

with open_client("http://127.0.0.1:8000/v1", key) as (name, post):
    post("/predict", {"family": "topic", "fields": {"text": "..."}})
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tasks.errors import StropError, one_line

Post = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Sends a body to a path below `/v1`; returns the response's, and raises an exception where there is none."""
REQUEST_SECONDS = 300.0
"""Time limit of a request. None is sent again: that would hide a lost one."""


@contextmanager
def open_client(url: str, key: str) -> Iterator[tuple[str, Post]]:
    """Its name, and its function."""
    if importlib.util.find_spec("openai") is None:
        with _httpx(url, key) as post:
            yield "httpx (the package openai is not installed; the requests are the same)", post
        return
    import openai

    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=REQUEST_SECONDS, http_client=http) as client:
        yield "the openai client", lambda path, body: _document(client.post(path, cast_to=object, body=body))


@contextmanager
def _httpx(url: str, key: str) -> Iterator[Post]:
    import httpx

    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(headers=headers, timeout=REQUEST_SECONDS, trust_env=False) as client:

        def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            response = client.post(f"{url}{path}", json=body)
            if response.is_error:
                raise StropError(f"status {response.status_code}: {one_line(response.text)}")
            return _document(response.json())

        yield post


def _document(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise StropError(f"the server answered {one_line(answer, 80)}")
    return answer
