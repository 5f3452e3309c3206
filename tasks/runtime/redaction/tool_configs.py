"""Secrets in the configuration files of DVC and git."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tasks.runtime.redaction.patterns import PATH_KEY, PUBLIC, SECRET_KEY, SHORTEST_BY_NAME
from tasks.runtime.redaction.settings import secret_in_address

NO_SECRETS = ("", "true", "false")
_LOOPBACK = ("localhost", "127.", "::1", "0.0.0.0")


def first_secret(path: Path) -> tuple[str, str] | None:
    """Section and key of the first literal secret in a DVC configuration file."""
    for section, key, value in _entries(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""):
        if secret_in_address(value) or _is_secret(key, value):
            return section, key
    return None


def secrets_in_config(text: str, path: Path, is_private: bool) -> list[str]:
    """The secrets in a configuration file of DVC or git."""
    secrets: list[str] = []
    for _, key, value in _entries(text):
        if key == "extraheader":
            secrets += value.split()[-1:]
        elif key in ("url", "endpointurl") and is_private:
            secrets += _forms_of_private_address(value, path.parent)
        elif _is_secret(key, value):
            secrets.append(value)
    return secrets


def _is_secret(key: str, value: str) -> bool:
    if not SECRET_KEY.search(key) or key in PUBLIC or key == "access_key_id":
        return False
    return not (value.startswith("${") or is_path(key, value) or value.lower() in NO_SECRETS)


def is_path(name: str, value: str) -> bool:
    """Whether the value of a key or variable is a file path. A secret may also begin with a slash: one in 64 AWS keys does."""
    return value.startswith("/") and (bool(PATH_KEY.search(name.lower())) or os.path.exists(value))


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of each entry of a DVC or git configuration file."""
    reader = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
    with contextlib.suppress(configparser.Error):
        reader.read_string(re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE))
    for section in reader.sections():
        for key, value in reader.items(section):
            whole = (value or "").strip()
            for form in dict.fromkeys((whole, whole.split("#")[0].strip())):  # a comment may follow a value
                yield section.strip("'"), key, form.strip("\"'")


def _forms_of_private_address(address: str, folder: Path) -> list[str]:
    """A private address in the forms in which libraries print it: complete, its path, its host."""
    forms = [address, address.rstrip("/")]
    parts = urlsplit(address)
    if not parts.scheme or not parts.netloc:  # a folder, relative to the configuration file
        path = os.path.normpath(folder / address)
        return [form for form in (*forms, path, os.path.realpath(path)) if form.count("/") > 1]
    forms.append(parts.netloc + parts.path.rstrip("/"))
    if parts.path.count("/") > 1:
        forms.append(parts.path.rstrip("/"))
    host = parts.hostname or ""
    if "." in host and not host.startswith(_LOOPBACK):
        forms.append(host)
    return [form for form in forms if len(form) >= SHORTEST_BY_NAME]
