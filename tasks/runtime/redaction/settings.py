"""Literal secrets in settings, and `${NAME}`, the variable to use instead."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tasks.errors import StropError
from tasks.runtime.redaction.patterns import NAME, PUBLIC, SECRET_KEY, SECRET_PARAMETER, SHORTEST_SECRET

USE_A_VARIABLE = "is a secret; put it into an environment variable, and refer to it here: ${NAME}"
USE_A_LOGIN_OF_GIT = (
    "is a secret; give it to a credential helper of git (`git help credentials`), or use SSH, "
    "and name the git remote here"
)
"""For the addresses that git reads: it replaces no variables."""
ADVICE: dict[tuple[str | int, ...], str] = {("register", "ledger_remote"): USE_A_LOGIN_OF_GIT}
"""Setting → what to do instead of a secret in it, where that is not a variable."""
_IN_PARAMETER = re.compile(r"(?:passw\w*|pwd|secret|token)\s*=\s*(?!\$\{)[^;\s]", re.IGNORECASE)
"""A secret in a parameter's value: ODBC's connection string."""


def literal_secret(value: Any) -> str:
    """The first literal secret in a setting, such as the key `storage_options.secret`; empty if there is none."""
    if isinstance(value, str):
        return secret_in_address(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            is_secret = SECRET_KEY.search(key.lower()) and key not in PUBLIC
            if is_secret and isinstance(inner, str) and not NAME.fullmatch(inner):
                return f"`{key}`"
            if isinstance(inner, (dict, list)) and (secret := literal_secret(inner)):
                return secret
    if isinstance(value, list):
        return next((secret for inner in value if (secret := literal_secret(inner))), "")
    return ""


def literal_secrets_in_addresses(
    document: Any, location: tuple[str | int, ...] = ()
) -> Iterator[tuple[list[str | int], str]]:
    """(location, description) of each literal secret in the addresses of a document."""
    if isinstance(document, str) and "://" in document and (secret := secret_in_address(document)):
        yield list(location), secret
    inner: Any = ()
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)
    for key, value in inner:
        yield from literal_secrets_in_addresses(value, (*location, key))


def secret_in_address(value: str) -> str:
    """The literal secret in an address; empty if there is none."""
    try:
        parts = urlsplit(value)
        name, password = parts.username, parts.password
    except ValueError:  # not every address is a URL
        return ""
    if password and not NAME.fullmatch(password):
        return "the password"
    if name and not password and parts.scheme in ("http", "https") and not NAME.fullmatch(name):
        return "the text before the @"
    for key, parameter in parse_qsl(parts.query) if parts.scheme else ():
        is_secret = SECRET_PARAMETER.search(key) and key.lower() not in PUBLIC and not NAME.fullmatch(parameter)
        if is_secret or _IN_PARAMETER.search(parameter):
            return f"`{key}`"
    return ""


def variables_in(setting: Any) -> list[str]:
    """The variables that are used in the setting."""
    if isinstance(setting, str):
        return NAME.findall(setting)
    inner = setting.values() if isinstance(setting, dict) else setting if isinstance(setting, list) else ()
    return [name for value in inner for name in variables_in(value)]


def with_variable_names(text: str, setting: Any) -> str:
    """The text with the values of the setting's variables replaced by `${NAME}`: safe to print and store."""
    for name in dict.fromkeys(variables_in(setting)):
        value = os.environ.get(name, "")
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"${{{name}}}")
    return text


def with_values(value: Any, missing: Callable[[str], StropError]) -> Any:
    """The setting with `${NAME}` replaced by the values from the environment.

    Args:
        missing: makes the error for a variable that is not set, from its name.
    """
    if isinstance(value, dict):
        return {key: with_values(inner, missing) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_values(inner, missing) for inner in value]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        if (name := match.group(1)) not in os.environ:
            raise missing(name)
        return os.environ[name]

    return NAME.sub(look_up, value)
