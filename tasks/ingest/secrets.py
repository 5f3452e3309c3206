"""Secrets of sources: in params.yaml, which git keeps, stands the name of an environment variable and never its value."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from tasks.errors import SourceError

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_KEY = re.compile(r"(^|_)(key|secret|token|password|passwd|sas|credential|credentials)(_|$)|connection_string")
_PUBLIC = frozenset({"key_file", "token_file"})


def naked_secrets(value: Any) -> str:
    """What in a setting is a secret written out: a key such as `storage_options.secret`; empty where there is none."""
    if isinstance(value, str):
        try:
            password = urlsplit(value).password
        except ValueError:  # not every address is a URL
            return ""
        return "the password" if password and not _NAME.fullmatch(password) else ""
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
