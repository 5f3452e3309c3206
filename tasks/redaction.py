"""Secrets: what is one in a setting, which ones this project knows, and a text without them.

    told = redact(str(error))       # for an error, a log or a report: known values and everything shaped like a password
    line = without_known(text)      # for what is shown: known values alone, because a row may look like an address
    install()                       # at the entry of a command: errors and log records of any library are redacted

In params.yaml, which git keeps, a secret is the name of an environment variable, `${NAME}`, and never its value. Known are
the values of those variables, of variables that are named like a secret, of proxies and other addresses in the
environment, of DVC's remotes (all of `.dvc/config.local`) and of git's.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tasks import errors
from tasks.errors import StropError

HIDDEN = "…"
NAMED_INSTEAD = "is a secret; put it into an environment variable, and name it here: ${NAME}"
SHORTEST_SECRET = 4
"""A shorter value is not masked: it would be part of words."""
SHORTEST_BY_NAME = 8
"""As above, of a variable that only its name makes a secret."""
_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEY_ENV = re.compile(r"api_key_env:\s*[\"']?([A-Za-z_][A-Za-z0-9_]*)")
_SECRET_KEY = re.compile(
    r"(^|_)(key|secret|token|password|passwd|sas|credential|credentials)(_|$)|connection_string|password$|auth_string"
)
_PUBLIC = frozenset({"key_file", "token_file", "keyfile"})
_SECRET_PARAMETER = re.compile(
    r"passw|pwd|secret|token|credential|signature|api_?key|(^|[_-])(key|sas|sig|pass|auth)([_-]|$)", re.IGNORECASE
)
"""Of an address's query; signed addresses, whose signature opens them, too."""
_WITHIN = re.compile(r"(?:passw\w*|pwd|secret|token)\s*=\s*(?!\$\{)[^;\s]", re.IGNORECASE)
"""A secret in a parameter's value: ODBC's connection string."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`\\]+")
_CREDENTIALS = re.compile(r"(?<=://)([^\s/?#\"'<>@:]*):([^\s/?#\"'<>]*)@")
_TOKEN_BEFORE_HOST = re.compile(r"(?<=https://)(?!\$\{)[^\s/?#\"'<>@:]+@|(?<=http://)(?!\$\{)[^\s/?#\"'<>@:]+@")
_PARAMETERS = re.compile(r"([?&;]([A-Za-z0-9_.\-]+)=)(?!\$\{)([^&;\s\"'<>)]+)")
_PAIRS = re.compile(r"\b((?:passw(?:or)?d|pwd|secret|token)\s*=\s*)(?!\$\{)[^\s;,&\"')]+", re.IGNORECASE)
_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)?\s*)[^\s'\",]+", re.IGNORECASE)
_LOOPBACK = ("localhost", "127.", "::1", "0.0.0.0")


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


def naked_addresses(document: Any, location: tuple[str | int, ...] = ()) -> Iterator[tuple[list[str | int], str]]:
    """The place of each address with a secret written out, and what it is, in all of a document."""
    if isinstance(document, str) and "://" in document and (found := _in_address(document)):
        yield list(location), found
    inner: Any = ()
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)
    for key, value in inner:
        yield from naked_addresses(value, (*location, key))


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


def named(setting: Any) -> list[str]:
    """The variables that the setting names."""
    if isinstance(setting, str):
        return _NAME.findall(setting)
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

    def look_up(found: re.Match[str]) -> str:
        if (name := found.group(1)) not in os.environ:
            raise missing(name)
        return os.environ[name]

    return _NAME.sub(look_up, value)


def without_known(text: str) -> str:
    """The text without the values that are known to be secrets here."""
    for value, shown in known_secrets():
        if value in text:
            text = text.replace(value, shown)
    return text


def redact(text: str) -> str:
    """The text without known secrets, and without whatever is shaped like one: `//user:password@`, `?token=…`."""
    text = without_credentials(without_known(text))
    return _HEADER.sub(rf"\1{HIDDEN}", _PAIRS.sub(rf"\1{HIDDEN}", text))


def without_credentials(text: str) -> str:
    """Addresses in the text without user, password, and the parameters that open them."""
    if "://" not in text:
        return text
    text = _CREDENTIALS.sub(lambda found: found[0] if "${" in found[2] else f"{found[1]}:{HIDDEN}@", text)
    text = _TOKEN_BEFORE_HOST.sub(f"{HIDDEN}@", text)
    return _PARAMETERS.sub(
        lambda found: f"{found[1]}{HIDDEN}" if _SECRET_PARAMETER.search(found[2]) else found[0], text
    )


def redact_values(value: Any) -> Any:
    """A JSON value whose texts hold no known secret."""
    if isinstance(value, str):
        return without_known(value)
    if isinstance(value, dict):
        return {key: redact_values(inner) for key, inner in value.items()}
    return [redact_values(inner) for inner in value] if isinstance(value, list) else value


def redacted_error(error: BaseException) -> BaseException:
    """The error itself, or where it or what caused it tells a secret, one of the same kind or name that does not."""
    chain = list(_chain(error))
    if all(redact(told) == told for each in chain if (told := _told(each))):
        return error
    if isinstance(error, StropError):
        clean: BaseException = type(error).__new__(type(error))
        clean.__dict__.update({key: redact(v) if isinstance(v, str) else v for key, v in vars(error).items()})
        clean.args = (str(clean),)
    else:
        clean = RuntimeError(f"{type(error).__name__}: {redact(_told(error))}")
    clean.__suppress_context__ = True
    return clean.with_traceback(error.__traceback__)


def _told(error: BaseException) -> str:
    try:
        return f"{error} {error.args!r}" if not isinstance(error, StropError) else str(error)
    except Exception:  # an exception of somebody else's that cannot even be shown  # noqa: BLE001
        return type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def install() -> None:
    """From now on errors of ours and log records of any library are redacted. May be called again."""
    errors.redact_by(redact)
    factory = logging.getLogRecordFactory()
    if getattr(factory, "redacts", False):
        return

    def make(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = factory(*arguments, **named)
        try:
            told = record.getMessage()
        except Exception:  # the mistake of a library, which logging itself reports  # noqa: BLE001
            return record
        if (clean := redact(told)) != told:
            record.msg, record.args = clean, None
        if record.exc_info and isinstance(record.exc_info, tuple):
            told = logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
            if (clean := redact(told)) != told:
                record.exc_text, record.exc_info = clean, None
        return record

    make.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)


def known_secrets() -> tuple[tuple[str, str], ...]:
    """Value → what is shown in its place, the longest first."""
    files = _files()
    stamps = tuple((path, _stamp(path)) for path, _ in files)
    return _known(files, stamps, tuple(sorted(os.environ.items())))


@lru_cache(maxsize=8)
def _known(
    files: tuple[tuple[str, bool], ...], _stamps: Any, environment: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for name, value in environment:
        if "://" in value or name.lower().endswith("_proxy"):
            address = value if "://" in value else f"http://{value}"
            _add(found, _of_text(address))
        elif name.startswith("GIT_CONFIG_"):
            _add(found, value.split()[-1:] if "authorization" in value.lower() else [])
        elif _SECRET_KEY.search(name.lower()) and len(value) >= SHORTEST_BY_NAME and not value.startswith("/"):
            _add(found, [value], f"${{{name}}}")
    for path, is_private in files:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        _add(found, _of_text(text))
        if path.endswith("params.yaml"):
            values = dict(environment)
            for name in {*_NAME.findall(text), *_KEY_ENV.findall(text)}:
                _add(found, [values.get(name, "")], f"${{{name}}}")
        else:
            _add(found, _of_config(text, Path(path), is_private))
    return tuple(sorted(found.items(), key=lambda pair: (-len(pair[0]), pair[0])))


def _files() -> tuple[tuple[str, bool], ...]:
    """The files that name addresses and secrets; of the private ones an address is a secret as a whole."""
    try:
        here = os.getcwd()
    except OSError:  # the folder is gone
        here = ""
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    dvc = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or f"{config}/dvc"
    git = f"{here}/.git"
    if os.path.isfile(git):  # a linked worktree
        try:
            git = os.path.dirname(os.path.dirname(Path(git).read_text(encoding="utf-8").split(":", 1)[1].strip()))
        except (OSError, IndexError):
            git = ""
    return (
        (f"{here}/params.yaml", False),
        (f"{here}/.dvc/config.local", True),
        (f"{here}/.dvc/config", False),
        (f"{dvc}/config", False),
        (f"{git}/config", False),
        (f"{home}/.gitconfig", False),
    )


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _add(found: dict[str, str], values: list[str], shown: str = HIDDEN) -> None:
    """The values and the spellings in which a library may show them."""
    for value in values:
        if len(value) < SHORTEST_SECRET:
            continue
        for spelling in (value, unquote(value), quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]):
            found.setdefault(spelling, shown)


def _of_text(text: str) -> list[str]:
    """The passwords, tokens and signatures of every address in a text."""
    found: list[str] = []
    for address in _ADDRESS.findall(text):
        try:
            parts = urlsplit(address)
            name, password = parts.username or "", parts.password or ""
        except ValueError:
            continue
        if password and not _NAME.search(password):
            found += [password, _basic(name, password), *([name] if password == "x-oauth-basic" else [])]
        elif name and not password and parts.scheme in ("http", "https", "ftp") and not _NAME.search(name):
            found.append(name)
        for key, value in parse_qsl(parts.query):
            if _SECRET_PARAMETER.search(key) and key.lower() not in _PUBLIC and not _NAME.search(value):
                found.append(value)
    return found


def _basic(name: str, password: str) -> str:
    """As the header of a request tells them."""
    return base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()


def written_secret(path: Path) -> tuple[str, str] | None:
    """Section and key of the first secret that is written out in a configuration of DVC."""
    for section, key, value in _entries(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""):
        if _in_address(value) or _is_secret(key, value):
            return section, key
    return None


def _of_config(text: str, path: Path, is_private: bool) -> list[str]:
    """The secrets in a configuration of DVC or git."""
    found: list[str] = []
    for _, key, value in _entries(text):
        if key == "extraheader":
            found += value.split()[-1:]
        elif key in ("url", "endpointurl") and is_private:
            found += _of_private_address(value, path.parent)
        elif _is_secret(key, value):
            found.append(value)
    return found


def _is_secret(key: str, value: str) -> bool:
    is_named_so = _SECRET_KEY.search(key) and key not in _PUBLIC and key != "access_key_id"
    return bool(is_named_so) and not value.startswith(("/", "${")) and value.lower() not in ("", "true", "false")


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of a configuration of DVC or git."""
    reader = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
    with contextlib.suppress(configparser.Error):
        reader.read_string(re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE))
    for section in reader.sections():
        for key, value in reader.items(section):
            yield section.strip("'"), key, (value or "").strip().strip("\"'")


def _of_private_address(address: str, folder: Path) -> list[str]:
    """An address that is in no file of git's, in the forms in which libraries tell it: whole, its path, its host."""
    found = [address, address.rstrip("/")]
    parts = urlsplit(address)
    if not parts.scheme or not parts.netloc:  # a folder, which DVC takes from the file's own
        path = os.path.normpath(folder / address)
        return [each for each in (*found, path, os.path.realpath(path)) if each.count("/") > 1]
    found.append(parts.netloc + parts.path.rstrip("/"))
    if parts.path.count("/") > 1:
        found.append(parts.path.rstrip("/"))
    host = parts.hostname or ""
    if "." in host and not host.startswith(_LOOPBACK):
        found.append(host)
    return [each for each in found if len(each) >= SHORTEST_BY_NAME]
