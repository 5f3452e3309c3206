"""API keys. Only their sha256 is kept: a key has 256 random bits, so that no slow hash is needed.

keys = KeyRing([Key("app", digest_of(secret), frozenset({"predict"}))])
caller = keys.require(request_headers, "predict")
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tasks.errors import ConfigError
from tasks.runtime.private_files import make_private_folder, read_private, write_private
from tasks.serve.errors import ApiError
from tasks.serve.settings import PROJECT_KEY, KeySettings, Role

LEAST_CHARACTERS = 32
ALL_ROLES: frozenset[Role] = frozenset({"predict", "feedback", "admin"})
_BEARER = b"bearer "


@dataclass(frozen=True)
class Caller:
    """The owner of a key."""

    name: str
    roles: frozenset[Role]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


@dataclass(frozen=True)
class Key:
    digest: bytes
    caller: Caller


class KeyRing:
    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def require(self, headers: Iterable[tuple[bytes, bytes]], role: Role) -> Caller:
        """The caller who sent these headers.

        Raises:
            ApiError: 401 without a valid key, 403 if it lacks the role.
        """
        values = [value for name, value in headers if name == b"authorization"]
        value = values[0] if len(values) == 1 else b""
        digest = digest_of(value[len(_BEARER) :].strip()) if value[: len(_BEARER)].lower() == _BEARER else b""
        caller = None
        for key in self._keys:  # all of them: the time does not depend on which one matches
            if hmac.compare_digest(key.digest, digest):
                caller = key.caller
        if caller is None:
            raise ApiError(401, "invalid_api_key", "No valid API key. Send the header `Authorization: Bearer KEY`.")
        if role not in caller.roles and not caller.is_admin:
            raise ApiError(403, "missing_role", f"The key {caller.name!r} lacks the role {role!r}.")
        return caller


def digest_of(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def open_key_ring(
    settings: Iterable[KeySettings], project_key: Path, environment: MutableMapping[str, str] = os.environ
) -> KeyRing:
    """The keys of the settings, and that of the project, whose file is made if necessary.

    The keys are removed from the environment: child processes have no use for them.

    Raises:
        ConfigError: a variable is not set, or its key is too short, or two keys are equal.
        StropError: the file of the project's key belongs to another user.
    """
    keys = [Key(digest_of(_project_key(project_key).encode()), Caller(PROJECT_KEY, ALL_ROLES))]
    for key in settings:
        where = f"serve.api_keys, {key.name}"
        value = environment.pop(key.api_key_env, "")
        if len(value) < LEAST_CHARACTERS:
            what = f"is shorter than {LEAST_CHARACTERS} characters" if value else "is not set"
            fix = f"Set it to a random key: export {key.api_key_env}=$(openssl rand -hex 32)"
            raise ConfigError(f"the environment variable {key.api_key_env} {what}", where=where, fix=fix)
        digest = digest_of(value.encode())
        if digest in [each.digest for each in keys]:
            raise ConfigError("has the value of another key", where=where, fix="Give each key a value of its own")
        keys.append(Key(digest, Caller(key.name, frozenset(key.roles))))
    return KeyRing(keys)


def _project_key(path: Path) -> str:
    """The project's key, made at the first start: loopback is no authentication, as every user of the machine may connect."""
    make_private_folder(path.parent)
    with FileLock(path.with_name("key.lock")):  # two servers of one project may start at once
        try:
            key = read_private(path).strip()
        except FileNotFoundError:
            key = ""
        if len(key) < LEAST_CHARACTERS:
            key = secrets.token_hex(32)
            write_private(path, f"{key}\n")
    return key
