"""Secrets among the arguments of a command: `--api-key VALUE`, `--token=VALUE`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.runtime.redaction.patterns import HIDDEN, NAME

_OPTION = re.compile(r"(--?[A-Za-z][\w-]*)(=?)(.*)", re.DOTALL)
_SECRET = frozenset(
    {"password", "passwd", "pwd", "passphrase", "secret", "token", "key", "apikey", "credential", "auth"}
)
_PUBLIC = frozenset({"file", "path", "dir", "id", "name"})


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """The arguments with the values of options that are named like secrets hidden; `${NAME}` stays."""
    hidden, is_next = [], False
    for argument in arguments:
        option = _OPTION.fullmatch(argument)
        if is_next and option is None:
            hidden.append(_hide(argument))
        elif option is not None and option[2] and _is_secret(option[1]):
            hidden.append(f"{option[1]}={_hide(option[3])}")
        else:
            hidden.append(argument)
        is_next = option is not None and not option[2] and _is_secret(option[1])
    return hidden


def _is_secret(option: str) -> bool:
    words = set(re.split(r"[-_]+", option.lower()))
    return not words.isdisjoint(_SECRET) and words.isdisjoint(_PUBLIC)


def _hide(value: str) -> str:
    return value if NAME.fullmatch(value) else HIDDEN
