"""Audit of the stages' dependencies in dvc.lock against the version commit: code, contract, templates, parameters."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.audit.subject import Link, Subject, link
from tasks.records.raw_bytes import folder_hash
from tasks.runtime.plurals import count_of
from tasks.vcs.git_objects import LINK


def check_stages(subject: Subject) -> Link:
    """Every dependency in the version must be the one that the stage read."""
    lock, described = (subject.yaml(path).get("stages") or {} for path in (paths.DVC_LOCK, paths.DVC_YAML))
    produced = _outputs(subject, lock)
    hashes = _Hashes(subject)
    problems: list[str] = []
    elsewhere: set[str] = set()
    checked = 0
    for name, stage in sorted(lock.items()):
        problems += [f"stage {name}: {problem}" for problem in _definition(stage, described.get(name))]
        for dependency in stage.get("deps") or ():
            path, recorded = str(dependency["path"]), dependency.get("md5")
            result = produced.get(path) or hashes.of(path)
            if result is None or recorded is None:
                elsewhere.add(path)
                continue
            checked += 1
            if result != recorded:
                problems.append(f"{path} in {subject.commit[:12]} is {result}, but stage {name} read {recorded}")
        problems += [f"stage {name}: {problem}" for problem in _params(subject, stage, described.get(name) or {})]
    problems += [
        f"stage {name} is in {paths.DVC_YAML}, but not in {paths.DVC_LOCK}" for name in described if name not in lock
    ]
    summary = f"{count_of(len(lock), 'stage')}, {count_of(checked, 'dependency', 'dependencies')} as they were read"
    if elsewhere:
        summary += f"; not part of the version: {', '.join(sorted(elsewhere))}"
    return link("stages", problems, summary)


class _Hashes:
    """DVC's hashes of the files and folders of a commit."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.ignored = [line.strip().strip("/") for line in (subject.blob(".dvcignore") or b"").decode().splitlines()]
        self._md5: dict[str, str] = {}

    def of(self, path: str) -> str | None:
        """The hash as in dvc.lock; None where the commit has no such path."""
        if path in self.subject.tree:
            return self._file(path)
        names = [name for name in self.subject.tree if name.startswith(f"{path}/")]
        below = {name.removeprefix(f"{path}/"): name for name in names}
        kept = {relative: self._file(name) for relative, name in below.items() if not self._is_ignored(relative)}
        return folder_hash(kept) if kept else None

    def _file(self, path: str) -> str:
        file = self.subject.tree[path]
        if file.mode == LINK:  # DVC reads the target of the link
            target = self.subject.read(path, file).decode("utf-8", "surrogateescape")
            linked = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if linked in self.subject.tree and linked != path:
                return self._file(linked)
            return "a link that points outside of the version"
        if file.oid not in self._md5:
            data = self.subject.read(path, file)
            self._md5[file.oid] = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return self._md5[file.oid]

    def _is_ignored(self, relative: str) -> bool:
        return any(fnmatch(part, pattern) for part in relative.split("/") for pattern in self.ignored if pattern)


def _outputs(subject: Subject, lock: dict[str, Any]) -> dict[str, str]:
    """Path → hash of every output: of the stages, and data/raw."""
    result = {str(out["path"]): str(out["md5"]) for stage in lock.values() for out in stage.get("outs") or ()}
    for out in subject.yaml(paths.RAW_DVC).get("outs") or ():
        result[(paths.RAW_DVC.parent / out["path"]).as_posix()] = str(out["md5"])
    return result


def _definition(stage: dict[str, Any], described: dict[str, Any] | None) -> Iterator[str]:
    """The stage that ran must be the one in dvc.yaml."""
    if described is None:
        yield f"ran, but is not in {paths.DVC_YAML}"
        return
    if stage.get("cmd") != described.get("cmd"):
        yield f"ran `{stage.get('cmd')}`, {paths.DVC_YAML} has `{described.get('cmd')}`"
    kinds = {"deps": ("deps",), "outs": ("outs", "metrics", "plots")}
    for what, names in kinds.items():
        ran = {str(output["path"]) for output in stage.get(what) or ()}
        described_paths = {_name(output) for name in names for output in described.get(name) or ()}
        if ran != described_paths:
            yield f"its {what} in {paths.DVC_LOCK} are not those in {paths.DVC_YAML} ({', '.join(sorted(ran ^ described_paths))})"


def _params(subject: Subject, stage: dict[str, Any], described: dict[str, Any]) -> Iterator[str]:
    for file, values in (stage.get("params") or {}).items():
        now = subject.yaml(Path(file))
        for key, value in values.items():
            if (result := _value(now, key)) != value:
                yield f"{key} in {file} is {result!r}, but the stage read {value!r}"
        read = {key for key in described.get("params") or () if isinstance(key, str)}
        for key in sorted(read - set(values)):
            if _value(now, key) is not None:
                yield f"{key} is in {file}, but the stage read none"


def _value(values: Any, key: str) -> Any:
    if isinstance(values, dict) and key in values:
        return values[key]
    head, _, rest = key.partition(".")
    return _value(values.get(head), rest) if rest and isinstance(values, dict) else None


def _name(described: Any) -> str:
    return str(described if isinstance(described, str) else next(iter(described)))
