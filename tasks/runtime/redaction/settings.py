"""Secrets written out in a setting, and `${NAME}`, the variable that is named in their place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tasks.errors import StropError
from tasks.runtime.redaction.patterns import NAME, PUBLIC, SECRET_KEY, SECRET_PARAMETER, SHORTEST_SECRET

NAMED_INSTEAD = "is a secret; put it into an environment variable, and name it here: ${NAME}"
_WITHIN = re.compile(r"(?:passw\w*|pwd|secret|token)\s*=\s*(?!\$\{)[^;\s]", re.IGNORECASE)
"""A secret in a parameter's value: ODBC's connection string."""


def naked_secrets(value: Any) -> str:
    """What in a setting is a secret written out: a key such as `storage_options.secret`; empty where there is none."""
    if isinstance(value, str):
        return secret_in_address(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            is_secret = SECRET_KEY.search(key.lower()) and key not in PUBLIC
            if is_secret and isinstance(inner, str) and not NAME.fullmatch(inner):
                return f"`{key}`"
            if isinstance(inner, (dict, list)) and (secret := naked_secrets(inner)):
                return secret
    if isinstance(value, list):
        return next((secret for inner in value if (secret := naked_secrets(inner))), "")
    return ""


def naked_addresses(document: Any, location: tuple[str | int, ...] = ()) -> Iterator[tuple[list[str | int], str]]:
    """The place of each address with a secret written out, and what it is, in all of a document."""
    if isinstance(document, str) and "://" in document and (secret := secret_in_address(document)):
        yield list(location), secret
    inner: Any = ()
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)
    for key, value in inner:
        yield from naked_addresses(value, (*location, key))


def secret_in_address(value: str) -> str:
    """What in an address is a secret written out; empty where there is none."""
    try:
        parts = urlsplit(value)
        name, password = parts.username, parts.password
    except ValueError:  # not every address is a URL
        return ""
    if password and not NAME.fullmatch(password):
        return "the password"
    if name and not password and parts.scheme in ("http", "https") and not NAME.fullmatch(name):
        return "what stands before the @"
    for key, parameter in parse_qsl(parts.query) if parts.scheme else ():
        is_secret = SECRET_PARAMETER.search(key) and key.lower() not in PUBLIC and not NAME.fullmatch(parameter)
        if is_secret or _WITHIN.search(parameter):
            return f"`{key}`"
    return ""


def named(setting: Any) -> list[str]:
    """The variables that the setting names."""
    if isinstance(setting, str):
        return NAME.findall(setting)
    inner = setting.values() if isinstance(setting, dict) else setting if isinstance(setting, list) else ()
    return [name for each in inner for name in named(each)]


def named_again(text: str, setting: Any) -> str:
    """The text with `${NAME}` in place of the values of the variables that the setting names: what may be shown and kept."""
    for name in dict.fromkeys(named(setting)):
        value = os.environ.get(name, "")
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"${{{name}}}")
    return text


def filled_in(value: Any, missing: Callable[[str], StropError]) -> Any:
    """The setting with the environment's values in place of `${NAME}`.

    Args:
        missing: the error for a variable, by its name, that is not set.
    """
    if isinstance(value, dict):
        return {key: filled_in(inner, missing) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled_in(inner, missing) for inner in value]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        if (name := match.group(1)) not in os.environ:
            raise missing(name)
        return os.environ[name]

    return NAME.sub(look_up, value)
