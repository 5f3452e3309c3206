"""The packages of a version's environment: the lock of its commit, and what its receipt records. Pure.

The lock (constraints.txt) says what should be installed, the receipt what was. Packages beside the lock, such as those of a plugin,
and other versions than the lock's are taken from the receipt.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.runtime.files import content_digest
from tasks.runtime.plurals import count_of

NOT_INSTALLED = frozenset({"pip", "uv"})
"""Recorded packages that no stage uses."""
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*([^\s;#]+)")


@dataclass(frozen=True)
class Requirements:
    lines: tuple[str, ...]
    """For `uv pip install -r`."""
    is_complete: bool
    """Every package is named, so that dependencies need not be resolved."""
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def digest(self, python: str, platform: str) -> str:
        """Names the environment: equal requirements for the same Python give the same one."""
        return content_digest([list(self.lines), self.is_complete, python, platform])[:16]


def requirements_of(lock: str | None, packages: Mapping[str, str], project: str) -> Requirements | None:
    """What to install; None if neither the lock nor the recorded packages exist.

    Args:
        lock: constraints.txt of the commit.
        packages: the packages in the receipt; empty in a receipt of before they were recorded.
        project: the name of the project's own package, whose code is in the clone.
    """
    pins = {canonical(match[1]): (match[2], line) for line in _lines(lock) if (match := _PIN.match(line))}
    if not packages:
        if lock is None:
            return None
        return Requirements(tuple(_lines(lock)), False, ("the receipt records no packages: the lock alone was used",))
    lines, beside, others = [], [], []
    for name, version in sorted(packages.items()):
        if name in NOT_INSTALLED or name == canonical(project):
            continue
        pinned, line = pins.get(canonical(name), (None, ""))
        if pinned is None:
            beside.append(name)
        elif public(pinned) != public(version):
            others.append(name)
        lines.append(line if pinned is not None and public(pinned) == public(version) else f"{name}=={version}")
    notes = []
    if lock is None:
        notes.append("the version has no constraints.txt: the packages of its receipt were installed")
    elif others:
        notes.append(f"{count_of(len(others), 'package')} as in the receipt, not as in the lock: {', '.join(others)}")
    return Requirements(tuple(lines), True, tuple(notes))


def package_differences(recorded: Mapping[str, str], installed: Mapping[str, str], project: str) -> tuple[str, ...]:
    """The packages that are not those of the receipt, such as `torch 2.13.0 (2.12.1)`."""
    ignored = NOT_INSTALLED | {canonical(project)}
    before = {canonical(name): version for name, version in recorded.items()}
    now = {canonical(name): version for name, version in installed.items()}
    lines = []
    for name in sorted({*before, *now} - ignored):
        if before.get(name) != now.get(name):
            lines.append(f"{name} {now.get(name, 'is not installed')} ({before.get(name, 'none')})")
    return tuple(lines)


def project_name(pyproject: str | None) -> str:
    """The name of the project's package, by its pyproject.toml."""
    try:
        document: dict[str, Any] = tomllib.loads(pyproject or "")
        return str(document["project"]["name"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        return "strop"


def canonical(name: str) -> str:
    """One spelling for `ruamel.yaml`, `ruamel-yaml` and `ruamel_yaml`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def public(version: str) -> str:
    """`2.13.0` of `2.13.0+cpu`: a lock names the release, the index or wheel folder decides the build."""
    return version.partition("+")[0]


def _lines(lock: str | None) -> list[str]:
    whole = re.sub(r"\s*\\\r?\n\s*", " ", lock or "")  # hashes are on lines of their own
    lines = [line.partition(" #")[0].strip() for line in whole.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
