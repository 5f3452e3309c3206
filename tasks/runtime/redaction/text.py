"""Removes known secrets, and everything that looks like a secret, from a text."""

from __future__ import annotations

import re

from tasks.runtime.redaction.known import without_known
from tasks.runtime.redaction.patterns import HIDDEN, SECRET_PARAMETER

_CREDENTIALS = re.compile(r"((?:(?<=:/)/?|(?<=//))[^\s/?#\"'<>@:]*):([^\s/?#\"'<>]*)@")
_UNESCAPED = re.compile(r"(?<=://)([^\s/?#\"'<>@:\[]*):(?!\$\{|[0-9]+[/?#]|@|…@)([^\s<>]{1,200})@")
"""`//user:a/b#c@`; a port is not a password."""
_TOKEN_BEFORE_HOST = re.compile(r"(?<=https://)(?!\$\{)[^\s/?#\"'<>@:]+@|(?<=http://)(?!\$\{)[^\s/?#\"'<>@:]+@")
_PARAMETERS = re.compile(r"([?&;#]([A-Za-z0-9_.\-]+)=)(?!\$\{)([^&;\s\"'<>)]+)")
_PAIRS = re.compile(
    r"((?:passw(?:or)?d|passphrase|(?:api|access|account|secret|shared_?access)_?key|auth_string|[a-z]_secret"
    r"|(?:access|api|auth|bearer|github|gitlab|hf|hub|id|private|refresh|session)_token|\b(?:pwd|secret|token))"
    r"\s*=\s*(?:b?['\"])?)(?!\$\{)[^\s;,&\"')]+",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    r"((?:passw(?:or)?d|passphrase|\bpwd|(?:api|access|account|secret)[_-]?key|[a-z]_secret|auth_string"
    r"|(?:access|api|auth|bearer|github|gitlab|hf|hub|id|private|refresh|session)_token|密码|口令|密钥)[ \t]*[:：][ \t]*)"
    r"(?!\$\{)[^\s;,&\"')]+"
    r"|(--(?:password|passwd|token|secret|api-key)[ \t]+)(?!\$\{)[^\s-][^\s\"']*",
    re.IGNORECASE,
)
"""`password: hunter2`, as in YAML and in text, and command line options."""
_ENTRIES = re.compile(
    r"(['\"][a-z_-]{0,40}(?:passw(?:or)?d|passphrase|pwd|secret|token|auth|(?:api|access|account|secret)[_-]?key)['\"]"
    r"\s*:\s*b?['\"])(?!\$\{)[^\s'\"]+",
    re.IGNORECASE,
)
"""In a dictionary, as printed by Python or JSON."""
_HEADER = re.compile(
    r"((?:authorization|api-key|(?:auth|private|access)-token)(?:['\"]?\s*[:=]\s*(?:b?['\"])?|['\"],\s*b?['\"])"
    r"(?:(?:bearer|basic|token)\s+)?)"
    r"(?!\$\{)[^\s'\",]+",
    re.IGNORECASE,
)


_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(?=-----END |\Z)", re.DOTALL)
_COOKIE = re.compile(r"(\b(?:set-)?cookie['\"]?[ \t]*:[ \t]*b?['\"]?)[^\r\n'\"]+", re.IGNORECASE)
_PREFIXED = re.compile(
    r"\b(?:gh[oprsu]_[A-Za-z0-9]{20}|github_pat_\w{20}|glpat-[\w-]{16}|hf_[A-Za-z0-9]{20}|sk-[\w-]{20}|xox[abprs]-[\w-]{10}"
    r"|A[KS]IA[A-Z0-9]{16}|eyJ[\w-]{8,2000}\.eyJ[\w-]{8,2000}\.)[\w-]*"
)
"""Tokens with a provider's prefix, and signed tokens (JWT)."""


def redact(text: str) -> str:
    """The text without known secrets, and without everything that looks like one: `//user:password@`, `?token=…`."""
    text = without_credentials(without_known(text))
    for pattern in (_PAIRS, _ENTRIES, _HEADER, _COOKIE, _PRIVATE_KEY):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    text = _LABELLED.sub(lambda match: f"{match[1] or match[2]}{HIDDEN}", text)
    return _PREFIXED.sub(HIDDEN, text)


def without_credentials(text: str) -> str:
    """The text with user, password and secret parameters removed from its addresses."""
    if ":/" in text or "//" in text:  # `Path` writes `//` as `/`
        text = _CREDENTIALS.sub(lambda match: match[0] if "${" in match[2] else f"{match[1]}:{HIDDEN}@", text)
        text = _UNESCAPED.sub(rf"\1:{HIDDEN}@", text)
        text = _TOKEN_BEFORE_HOST.sub(f"{HIDDEN}@", text)
    if "=" not in text:
        return text  # also without an address: urllib3 reports only the path and the parameters
    return _PARAMETERS.sub(lambda match: f"{match[1]}{HIDDEN}" if SECRET_PARAMETER.search(match[2]) else match[0], text)
