"""Secrets in the configuration files of DVC and git."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tasks.runtime.redaction.patterns import LEADS_TO_A_FILE, PUBLIC, SECRET_KEY, SHORTEST_BY_NAME
from tasks.runtime.redaction.settings import secret_in_address

NO_SECRETS = ("", "true", "false")
_LOOPBACK = ("localhost", "127.", "::1", "0.0.0.0")


def written_secret(path: Path) -> tuple[str, str] | None:
    """Section and key of the first secret that is written out in a configuration of DVC."""
    for section, key, value in _entries(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""):
        if secret_in_address(value) or _is_secret(key, value):
            return section, key
    return None


def secrets_in_config(text: str, path: Path, is_private: bool) -> list[str]:
    """The secrets in a configuration of DVC or git."""
    secrets: list[str] = []
    for _, key, value in _entries(text):
        if key == "extraheader":
            secrets += value.split()[-1:]
        elif key in ("url", "endpointurl") and is_private:
            secrets += _of_private_address(value, path.parent)
        elif _is_secret(key, value):
            secrets.append(value)
    return secrets


def _is_secret(key: str, value: str) -> bool:
    is_named_so = SECRET_KEY.search(key) and key not in PUBLIC and key != "access_key_id"
    return bool(is_named_so) and not (value.startswith("${") or is_path(key, value)) and value.lower() not in NO_SECRETS


def is_path(name: str, value: str) -> bool:
    """Whether the value of a key or variable leads to a file. A secret may begin with a slash, too: one of AWS in 64 does."""
    return value.startswith("/") and (bool(LEADS_TO_A_FILE.search(name.lower())) or os.path.exists(value))


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of a configuration of DVC or git."""
    reader = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
    with contextlib.suppress(configparser.Error):
        reader.read_string(re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE))
    for section in reader.sections():
        for key, value in reader.items(section):
            whole = (value or "").strip()
            for form in dict.fromkeys((whole, whole.split("#")[0].strip())):  # a comment may stand after a value
                yield section.strip("'"), key, form.strip("\"'")


def _of_private_address(address: str, folder: Path) -> list[str]:
    """An address that is in no file of git's, in the forms in which libraries write it: whole, its path, its host."""
    forms = [address, address.rstrip("/")]
    parts = urlsplit(address)
    if not parts.scheme or not parts.netloc:  # a folder, which DVC takes from the file's own
        path = os.path.normpath(folder / address)
        return [each for each in (*forms, path, os.path.realpath(path)) if each.count("/") > 1]
    forms.append(parts.netloc + parts.path.rstrip("/"))
    if parts.path.count("/") > 1:
        forms.append(parts.path.rstrip("/"))
    host = parts.hostname or ""
    if "." in host and not host.startswith(_LOOPBACK):
        forms.append(host)
    return [each for each in forms if len(each) >= SHORTEST_BY_NAME]
