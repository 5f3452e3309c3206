"""Reads everything that refers to versions: receipts, the registry's aliases, and the files of all worktrees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.model_store.ledger_entries import Entry
from tasks.model_store.versions import commit_of, receipt_at
from tasks.retention.needed import Uses
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import read_json
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.tracking.model_versions import Version

_VERSION = re.compile(r"v?(\d{1,9})")


def read_uses(model: str, entries: list[Entry], registered: Iterable[Version], worktrees: Iterable[Path]) -> Uses:
    """Raises StropError where a file that may name a version cannot be read."""
    versions = [entry.version for entry in entries if entry.kind == "judged"]
    commits = {version: version_commit(model, version, entries) for version in versions}
    digests: dict[str, str] = {}
    names: dict[int, str] = {}
    for root in worktrees:
        for folder in (root, root / paths.WORK):
            for file, digest in _digests_in(folder):
                digests.setdefault(digest, str(file))
            for number in _names_in(folder / paths.PARAMS):
                names.setdefault(number, str(folder / paths.PARAMS))
    return Uses(
        entries=tuple(entries),
        parents={version: _weights_in(receipt_at(commit)) for version, commit in commits.items() if commit},
        aliases={version.version: version.aliases[0] for version in registered if version.aliases},
        digests=digests,
        names=names,
    )


def version_commit(model: str, version: int, entries: list[Entry]) -> str | None:
    """The commit of a version, also where people removed its ref but git still has it."""
    recorded = next((entry.commit for entry in entries if entry.version == version and entry.commit), "")
    return commit_of(model, version) or (git.resolve(recorded) if recorded else None)


def _weights_in(receipt: dict[str, Any] | None) -> frozenset[str]:
    """The digests of all weights that a receipt names: of its start, and of the champion of its round."""
    receipt = receipt or {}
    start, round_ = receipt.get("start") or {}, receipt.get("round") or {}
    champions = [part["champion"]["weights_digest"] for part in (start, round_) if part.get("champion")]
    return frozenset({*champions, *(start.get("versions") or {}).values()})


def _digests_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """(File, digest of weights) that the round, the training start and the verdict in a folder name."""
    start, round_, verdict = folder / paths.START, folder / paths.ROUND, folder / paths.VERDICT
    for file in (start, round_):
        if file.exists():
            for digest in _weights_in({file.stem: read_json(file)}):
                yield file, digest
    if verdict.exists() and (digest := read_json(verdict).get("candidate_digest")):
        yield verdict, digest


def _names_in(params: Path) -> set[int]:
    """Every number in params.yaml that may name a version: a teacher or reward model is named `3` or `v3`."""
    if not params.exists():
        return set()
    return {
        int(match[1])
        for text in _texts(load_yaml(params.read_text(encoding="utf-8-sig")))
        if (match := _VERSION.fullmatch(text))
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(item)
