"""Secrets of sources: in params.yaml, which git keeps, stands the name of an environment variable and never its value."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tasks.errors import SourceError

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_KEY = re.compile(r"(^|_)(key|secret|token|password|passwd|sas|credential|credentials)(_|$)|connection_string")
SHORTEST_SECRET = 4
"""A shorter value is not masked: it would stand within words."""
_PUBLIC = frozenset({"key_file", "token_file"})
_SECRET_PARAMETER = re.compile(
    r"passw|pwd|secret|token|credential|signature|api_?key|(^|[_-])(key|sas|sig|pass|auth)([_-]|$)", re.IGNORECASE
)
"""Of an address's query; signed addresses, whose signature opens them, too."""
_WITHIN = re.compile(r"(?:passw\w*|pwd|secret|token)\s*=\s*(?!\$\{)[^;\s]", re.IGNORECASE)
"""A secret in a parameter's value: ODBC's connection string."""


def naked_secrets(value: Any) -> str:
    """What in a setting is a secret written out: a key such as `storage_options.secret`; empty where there is none."""
    if isinstance(value, str):
        return _in_address(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            is_secret = _SECRET_KEY.search(key.lower()) and key not in _PUBLIC
            if is_secret and isinstance(inner, str) and not _NAME.fullmatch(inner):
                return f"`{key}`"
            if isinstance(inner, (dict, list)) and (found := naked_secrets(inner)):
                return found
    if isinstance(value, list):
        return next((found for inner in value if (found := naked_secrets(inner))), "")
    return ""


def _in_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        name, password = parts.username, parts.password
    except ValueError:  # not every address is a URL
        return ""
    if password and not _NAME.fullmatch(password):
        return "the password"
    if name and not password and parts.scheme in ("http", "https") and not _NAME.fullmatch(name):
        return "what stands before the @"
    for key, said in parse_qsl(parts.query) if parts.scheme else ():
        is_secret = _SECRET_PARAMETER.search(key) and key.lower() not in _PUBLIC and not _NAME.fullmatch(said)
        if is_secret or _WITHIN.search(said):
            return f"`{key}`"
    return ""


def named_again(text: str, setting: Any) -> str:
    """The text with `${NAME}` in place of the values of the variables that the setting names: what may be shown and kept."""
    for name in dict.fromkeys(named(setting)):
        value = os.environ.get(name, "")
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"${{{name}}}")
    return text


def without_secrets(error: SourceError, setting: Any) -> SourceError:
    """The error as it may be shown: a store or a database may tell the whole address."""
    what, where, fix = (named_again(text or "", setting) for text in (error.what, error.where, error.fix))
    return SourceError(what, where=where or None, fix=fix or None)


def named(setting: Any) -> list[str]:
    """The variables that the setting names."""
    if isinstance(setting, str):
        return _NAME.findall(setting)
    inner = setting.values() if isinstance(setting, dict) else setting if isinstance(setting, list) else ()
    return [name for each in inner for name in named(each)]


def filled_in(value: Any, source: str) -> Any:
    """The setting with the environment's values in place of `${NAME}`.

    Raises:
        SourceError: a variable is not set.
    """
    if isinstance(value, dict):
        return {key: filled_in(inner, source) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled_in(inner, source) for inner in value]
    if not isinstance(value, str):
        return value

    def look_up(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in os.environ:
            fix = f"Set it before the run: export {name}=…"
            raise SourceError(f"the environment variable {name} is not set", where=f"source `{source}`", fix=fix)
        return os.environ[name]

    return _NAME.sub(look_up, value)
