"""The known secret values of this project, and their removal from texts."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from tasks.runtime.files import file_state
from tasks.runtime.redaction.patterns import (
    HIDDEN,
    NAME,
    PUBLIC,
    SECRET_KEY,
    SECRET_PARAMETER,
    SHORTEST_BY_NAME,
    SHORTEST_LINE,
    SHORTEST_SECRET,
)
from tasks.runtime.redaction.tool_configs import is_path, secrets_in_config
from tasks.runtime.run_origin import project

_KEY_ENV = re.compile(r"api_key_env:\s*[\"']?([A-Za-z_][A-Za-z0-9_]*)")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`\\]+")
_WHOLE_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def without_known(text: str) -> str:
    """The text without known secret values."""
    for value, replacement in known_secrets():
        if value in text:
            text = text.replace(value, replacement)
    return text


def redact_values(value: Any) -> Any:
    """A JSON value without known secrets in its strings."""
    if isinstance(value, str):
        return without_known(value)
    if isinstance(value, dict):
        return {key: redact_values(inner) for key, inner in value.items()}
    return [redact_values(inner) for inner in value] if isinstance(value, list) else value


def known_secrets() -> tuple[tuple[str, str], ...]:
    """Secret value → its replacement, the longest first."""
    files = _files()
    states = tuple((path, file_state(path)) for path, _ in files)
    return _known(files, states, tuple(sorted(os.environ.items())))


@lru_cache(maxsize=8)
def _known(
    files: tuple[tuple[str, bool], ...], _states: Any, environment: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    secrets: dict[str, str] = {}
    for name, value in environment:
        if "://" in value or name.lower().endswith("_proxy"):
            address = value if "://" in value else f"http://{value}"
            _add(secrets, _in_addresses(address))
        if name.startswith("GIT_CONFIG_"):
            _add(secrets, value.split()[-1:] if "authorization" in value.lower() else [])
        elif SECRET_KEY.search(name.lower()) and len(value) >= SHORTEST_BY_NAME and not is_path(name, value):
            _add(secrets, [value], f"${{{name}}}")
    for path, is_private in files:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        _add(secrets, _in_addresses(text))
        if path.endswith("params.yaml"):
            values = dict(environment)
            for name in {*NAME.findall(text), *_KEY_ENV.findall(text)}:
                _add(secrets, [values.get(name, "")], f"${{{name}}}")
        else:
            _add(secrets, secrets_in_config(text, Path(path), is_private))
    return tuple(sorted(secrets.items(), key=lambda pair: (-len(pair[0]), pair[0])))


def _files() -> tuple[tuple[str, bool], ...]:
    """(path, is private) of the files with addresses and secrets; in a private file a whole address is a secret."""
    try:
        here = os.getcwd()
        root = os.path.abspath(project())  # also from the folder of a run, which has no `.git`
    except (OSError, ValueError, KeyError, TypeError):  # the folder was removed, or its origin file is damaged
        here = root = ""
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    dvc = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or f"{config}/dvc"
    git = f"{root}/.git"
    if os.path.isfile(git):  # a linked worktree
        try:
            git = os.path.dirname(os.path.dirname(Path(git).read_text(encoding="utf-8").split(":", 1)[1].strip()))
        except (OSError, IndexError):
            git = ""
    main = os.path.dirname(git)  # a linked worktree uses the DVC settings of the main one
    return (
        (f"{here}/params.yaml", False),
        (f"{here}/.dvc/config.local", True),
        (f"{here}/.dvc/config", False),
        *(((f"{main}/.dvc/config.local", True),) if main not in ("", here) else ()),
        (f"{dvc}/config", False),
        ("/etc/xdg/dvc/config", False),
        (f"{git}/config", False),
        (f"{git}/config.worktree", False),
        (f"{config}/git/config", False),
        ("/etc/gitconfig", False),
        (f"{home}/.gitconfig", False),
    )


def _add(secrets: dict[str, str], values: list[str], replacement: str = HIDDEN) -> None:
    """Adds the values, and the forms in which a library may print them."""
    for value in values:
        if len(value) < SHORTEST_SECRET:
            continue
        for form in dict.fromkeys((value, unquote(value), *_keys_in(value), *_lines_in(value))):
            for encoding in _encodings(form):
                if len(encoding) >= SHORTEST_SECRET:  # `%61%62` is `ab`
                    secrets.setdefault(encoding, replacement)


def _encodings(value: str) -> Iterator[str]:
    """A value as encoded in URLs (requests, urllib3, SQLAlchemy, forms), JSON and Python."""
    yield value
    for safe in ("", "/", " +"):
        yield quote(value, safe=safe, errors="surrogateescape")
    yield quote_plus(value, errors="surrogateescape")
    yield json.dumps(value)[1:-1]
    yield repr(value)[1:-1]
    yield ascii(value)[1:-1]
    yield repr(value.encode(errors="surrogateescape"))[2:-1]


def _keys_in(value: str) -> list[str]:
    """The secret values in a connection string: `AccountName=…;AccountKey=…`."""
    pairs = [part.partition("=") for part in value.split(";")] if ";" in value else []
    return [secret for key, _, secret in pairs if SECRET_PARAMETER.search(key) or key.lower().endswith("key")]


def _lines_in(value: str) -> list[str]:
    """The lines of a multi-line key, for output that has one line at a time."""
    lines = re.split(r"\r?\n|\\n", value)
    return [line for line in lines if len(line) >= SHORTEST_LINE and "-----" not in line] if len(lines) > 1 else []


def _in_addresses(text: str) -> list[str]:
    """The passwords, tokens and signatures of every address in a text."""
    secrets: list[str] = []
    whole = [text] if _WHOLE_ADDRESS.fullmatch(text) else []  # may contain quotes and spaces
    for address in (*_ADDRESS.findall(text), *whole):
        secrets += _unescaped_password(address)
        try:
            parts = urlsplit(address)
            name, password = parts.username or "", parts.password or ""
        except ValueError:
            continue
        if password and not NAME.search(password):
            secrets += [password, _basic(name, password), *([name] if password == "x-oauth-basic" else [])]
        elif name and not password and parts.scheme in ("http", "https", "ftp") and not NAME.search(name):
            secrets.append(name)
        for key, _, value in (pair.partition("=") for pair in parts.query.split("&")):
            is_secret = SECRET_PARAMETER.search(unquote_plus(key)) and key.lower() not in PUBLIC
            if is_secret and not NAME.search(value):
                secrets += [value, unquote_plus(value)]
    return secrets


def _unescaped_password(address: str) -> list[str]:
    """Everything up to the last `@`: users may not escape `@`, `/` and `#` in a password, and libraries split it differently."""
    before, at, _ = address.partition("://")[2].rpartition("@")
    _, colon, password = before.partition(":")
    is_port = before.startswith("[") or re.match(r"\d+[/?#]", password)
    return [password] if at and colon and not is_port and not NAME.search(password) else []


def _basic(name: str, password: str) -> str:
    """User and password in the form of an HTTP Basic header."""
    return base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode(errors="surrogateescape")).decode()
