"""A text without secrets: without those that are known, and without whatever is shaped like one."""

from __future__ import annotations

import re

from tasks.redaction.known import without_known
from tasks.redaction.patterns import HIDDEN, SECRET_PARAMETER

_CREDENTIALS = re.compile(r"((?:(?<=:/)/?|(?<=//))[^\s/?#\"'<>@:]*):([^\s/?#\"'<>]*)@")
_UNESCAPED = re.compile(r"(?<=://)([^\s/?#\"'<>@:\[]*):(?!\$\{|[0-9]+[/?#]|@|…@)([^\s<>]{1,200})@")
"""`//user:a/b#c@`; a port is no password."""
_TOKEN_BEFORE_HOST = re.compile(r"(?<=https://)(?!\$\{)[^\s/?#\"'<>@:]+@|(?<=http://)(?!\$\{)[^\s/?#\"'<>@:]+@")
_PARAMETERS = re.compile(r"([?&;]([A-Za-z0-9_.\-]+)=)(?!\$\{)([^&;\s\"'<>)]+)")
_PAIRS = re.compile(
    r"((?:passw(?:or)?d|passphrase|(?:api|access|account|secret|shared_?access)_?key|\b(?:pwd|secret|token))"
    r"\s*=\s*(?:b?['\"])?)(?!\$\{)[^\s;,&\"')]+",
    re.IGNORECASE,
)
_ENTRIES = re.compile(
    r"(['\"][a-z_-]{0,40}(?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|account|secret)[_-]?key)['\"]"
    r"\s*:\s*b?['\"])(?!\$\{)[^\s'\"]+",
    re.IGNORECASE,
)
"""Of a dictionary that Python or JSON writes."""
_HEADER = re.compile(
    r"((?:authorization|api-key|(?:auth|private|access)-token)(?:['\"]?\s*[:=]\s*(?:b?['\"])?|['\"],\s*b?['\"])"
    r"(?:(?:bearer|basic|token)\s+)?)"
    r"(?!\$\{)[^\s'\",]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without known secrets, and without whatever is shaped like one: `//user:password@`, `?token=…`."""
    text = without_credentials(without_known(text))
    for shape in (_PAIRS, _ENTRIES, _HEADER):
        text = shape.sub(rf"\1{HIDDEN}", text)
    return text


def without_credentials(text: str) -> str:
    """Addresses in the text without user, password, and the parameters that open them."""
    if ":/" in text or "//" in text:  # a path's `//` becomes one
        text = _CREDENTIALS.sub(lambda match: match[0] if "${" in match[2] else f"{match[1]}:{HIDDEN}@", text)
        text = _UNESCAPED.sub(rf"\1:{HIDDEN}@", text)
        text = _TOKEN_BEFORE_HOST.sub(f"{HIDDEN}@", text)
    if "=" not in text:
        return text  # urllib3 reports the path and the parameters alone
    return _PARAMETERS.sub(lambda match: f"{match[1]}{HIDDEN}" if SECRET_PARAMETER.search(match[2]) else match[0], text)
