"""A text without secrets: without those that are known, and without whatever is shaped like one."""

from __future__ import annotations

import re

from tasks.redaction.known import without_known
from tasks.redaction.patterns import HIDDEN, SECRET_PARAMETER

_CREDENTIALS = re.compile(r"((?<=:/)/?[^\s/?#\"'<>@:]*):([^\s/?#\"'<>]*)@")
_TOKEN_BEFORE_HOST = re.compile(r"(?<=https://)(?!\$\{)[^\s/?#\"'<>@:]+@|(?<=http://)(?!\$\{)[^\s/?#\"'<>@:]+@")
_PARAMETERS = re.compile(r"([?&;]([A-Za-z0-9_.\-]+)=)(?!\$\{)([^&;\s\"'<>)]+)")
_PAIRS = re.compile(r"\b((?:passw(?:or)?d|pwd|secret|token)\s*=\s*)(?!\$\{)[^\s;,&\"')]+", re.IGNORECASE)
_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)?\s*)[^\s'\",]+", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without known secrets, and without whatever is shaped like one: `//user:password@`, `?token=…`."""
    text = without_credentials(without_known(text))
    return _HEADER.sub(rf"\1{HIDDEN}", _PAIRS.sub(rf"\1{HIDDEN}", text))


def without_credentials(text: str) -> str:
    """Addresses in the text without user, password, and the parameters that open them."""
    if ":/" not in text:  # a path's `//` becomes one
        return text
    text = _CREDENTIALS.sub(lambda match: match[0] if "${" in match[2] else f"{match[1]}:{HIDDEN}@", text)
    text = _TOKEN_BEFORE_HOST.sub(f"{HIDDEN}@", text)
    return _PARAMETERS.sub(lambda match: f"{match[1]}{HIDDEN}" if SECRET_PARAMETER.search(match[2]) else match[0], text)
