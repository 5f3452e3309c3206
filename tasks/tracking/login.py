"""The login for a tracking server. One in the address goes to MLflow by its environment variables, and the address goes on without.

MLflow writes the address into its messages and "View run" lines; the password must not be in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit, urlunsplit

USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"

_before: dict[str, str | None] = {}
"""What the environment held before a login from an address was put there."""
_given: dict[str, str] = {}
"""What was put there."""


def use_login(uri: str) -> str:
    """Gives MLflow the login that the address holds, until the next call, and returns the address without it."""
    _restore(_before, _given)
    address, login = split_login(uri)
    _before.clear()
    _before.update({name: os.environ.get(name) for name in login})
    _given.clear()
    _given.update(login)
    os.environ.update(login)
    return address


@contextlib.contextmanager
def login_within(uri: str) -> Iterator[str]:
    """As `use_login`, for the block alone."""
    address, login = split_login(uri)
    before = {name: os.environ.get(name) for name in login}
    os.environ.update(login)
    try:
        yield address
    finally:
        _restore(before, login)


def split_login(uri: str) -> tuple[str, dict[str, str]]:
    """The address of a server without its login, and the environment variables that hold the login. A database keeps its own."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri, {}
    host = parts.netloc.rpartition("@")[2]
    login = {USERNAME: unquote(parts.username), PASSWORD: unquote(parts.password or "")}
    return urlunsplit(parts._replace(netloc=host)), login


def has_login() -> bool:
    """Whether MLflow has a login from the environment."""
    return bool(os.environ.get(USERNAME) or os.environ.get("MLFLOW_TRACKING_TOKEN"))


def _restore(before: dict[str, str | None], given: dict[str, str]) -> None:
    """A variable that somebody else has changed since stays as it is."""
    for name, value in before.items():
        if os.environ.get(name) == given[name]:
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
