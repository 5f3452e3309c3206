"""The login for a tracking server. A login in the address is moved to MLflow's environment variables.

MLflow writes the address into its messages and "View run" lines, so the password must not be part of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from tasks.errors import RegistryError

USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"

_previous: dict[str, str | None] = {}
"""The variables before a login from an address was set."""
_current: dict[str, str] = {}
"""The variables that were set."""


def use_login(uri: str) -> str:
    """Sets MLflow's variables to the login in the address, until the next call; returns the address without it."""
    _restore(_previous, _current)
    address, login = split_login(uri)
    _previous.clear()
    _previous.update({name: os.environ.get(name) for name in login})
    _current.clear()
    _current.update(login)
    os.environ.update(login)
    return address


@contextlib.contextmanager
def login_within(uri: str) -> Iterator[str]:
    """As `use_login`, within the block only."""
    address, login = split_login(uri)
    previous = {name: os.environ.get(name) for name in login}
    os.environ.update(login)
    try:
        yield address
    finally:
        _restore(previous, login)


def split_login(uri: str) -> tuple[str, dict[str, str]]:
    """A server's address without its login, and the login as environment variables. A database address keeps its login.

    Raises:
        RegistryError: it is no address. It is not part of the message: what cannot be read cannot be redacted.
    """
    parts = _split(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri, {}
    host = parts.netloc.rpartition("@")[2]
    login = {USERNAME: unquote(parts.username), PASSWORD: unquote(parts.password or "")}
    return urlunsplit(parts._replace(netloc=host)), login


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        is_valid = parts.port is None or bool(parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid or any(character.isspace() for character in parts.netloc):
        what = "the address cannot be read: the part with user, password, host and port is invalid"
        fix = (
            "Write special characters of a user or password as %XX (`/` as %2F, `@` as %40, a space as %20); several hosts of a "
            "PostgreSQL database as postgresql:///NAME?host=A:5432&host=B:5432"
        )
        raise RegistryError(what, where="register.tracking_uri (or MLFLOW_TRACKING_URI)", fix=fix)
    return parts


def has_login() -> bool:
    """Whether MLflow has a login from the environment."""
    return bool(os.environ.get(USERNAME) or os.environ.get("MLFLOW_TRACKING_TOKEN"))


def _restore(previous: dict[str, str | None], current: dict[str, str]) -> None:
    """Restores the variables, except those that were changed since."""
    for name, value in previous.items():
        if os.environ.get(name) == current[name]:
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
