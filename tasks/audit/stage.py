"""Audits a version: recomputes every link from the registered model back to the raw rows, against its receipt.

for link in audit(config, 3): print(link.name, link.ok, link.detail)
links = audit(config, 3, deep=True)     # reads every byte, also of files with unchanged size, times and inode
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tasks.audit.digests import Digests
from tasks.audit.links import DATA_LINKS, check_all
from tasks.audit.read_ahead import files_to_read
from tasks.audit.subject import Link, Subject
from tasks.errors import AuditError, StropError
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_entries import Entry
from tasks.model_store.ledger_remote import follow_if_behind
from tasks.model_store.versions import commit_of, receipt_at, tag_name
from tasks.tracking.readable import open_for_reading
from tasks.vcs.git_objects import Objects

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

__all__ = ["AuditResult", "Link", "audit", "audit_dataset", "audit_version"]

LEAST_CHARACTERS = 6


@dataclass(frozen=True)
class AuditResult:
    """The links of a version, and what a report of the audit shows beside them."""

    model: str
    version: int
    commit: str
    receipt: dict[str, Any]
    links: list[Link]
    chain: list[ChainNode]
    """The whole ledger of the model."""
    is_deep: bool
    read_bytes: int
    """Bytes whose digests were computed; the others are of files that had not changed."""
    seconds: float

    @property
    def is_whole(self) -> bool:
        return all(link.ok for link in self.links)


def audit(config: PipelineConfig, version: int, *, deep: bool = False) -> list[Link]:
    """The result of every link, in order, as `audit_version`."""
    return audit_version(config, version, deep=deep).links


def audit_version(config: PipelineConfig, version: int, *, deep: bool = False) -> AuditResult:
    """Checks every link of a version.

    Args:
        deep: read every byte again; else files with unchanged size, times and inode are not read.

    Raises:
        RegistryError: there is no such version.
        AuditError: its commit or receipt is missing, so there is nothing to compare with.
    """
    return _audit(config, version, deep, None)


def audit_dataset(config: PipelineConfig, dataset: str, *, deep: bool = False) -> AuditResult:
    """Checks the links of a dataset alone, with those that anchor its receipt.

    Args:
        dataset: the first characters of its hash; or a version of the model, such as `v3`.

    Raises:
        AuditError: no version of the model has it.
    """
    from tasks.model_store.ledger import read_ledger

    return _audit(config, version_with_dataset(read_ledger(config.register_.model_name), dataset), deep, DATA_LINKS)


def version_with_dataset(entries: list[Entry], dataset: str) -> int:
    """The newest version with a dataset, by the ledger.

    Raises:
        AuditError: none has it, or several datasets begin so.
    """
    judged = [entry for entry in entries if entry.kind == "judged"]
    number = dataset.removeprefix("v")
    if number.isdecimal() and any(entry.version == int(number) for entry in judged):
        return int(number)
    matches = {entry.dataset: entry.version for entry in judged if entry.dataset.startswith(dataset.lower())}
    if len(matches) == 1 and len(dataset) >= LEAST_CHARACTERS:
        return next(iter(matches.values()))
    known = ", ".join(f"{entry.dataset[:12]} (v{entry.version})" for entry in judged[-5:]) or "none"
    what = "several datasets begin so" if len(matches) > 1 else "no version has this dataset"
    if matches and len(dataset) < LEAST_CHARACTERS:
        what = f"is too short: {LEAST_CHARACTERS} characters of the hash, or a version such as v3"
    raise AuditError(what, where=dataset, fix=f"Name a version, or one of the newest datasets: {known}")


@contextlib.contextmanager
def auditing(config: PipelineConfig, version: int, *, deep: bool = False) -> Iterator[Subject]:
    """A version with its commit, receipt and files, for the checks."""
    with Objects() as objects, TemporaryDirectory(prefix="strop-audit-") as scratch:
        subject = _subject(config, version, objects, Digests(reads_all=deep), Path(scratch))
        try:
            yield subject
        finally:
            subject.digests.save()


def _audit(config: PipelineConfig, version: int, deep: bool, names: tuple[str, ...] | None) -> AuditResult:
    start = time.monotonic()
    with auditing(config, version, deep=deep) as subject:
        if deep:
            subject.digests.read_ahead(files_to_read(subject, names))
        links = list(check_all(subject, names))
        try:
            chain = subject.chain
        except StropError:  # reported by the link `ledger`
            chain = []
        numbers = subject.digests.read_bytes, time.monotonic() - start
        return AuditResult(subject.model, version, subject.commit, subject.receipt, links, chain, deep, *numbers)


def _subject(config: PipelineConfig, version: int, objects: Objects, digests: Digests, scratch: Path) -> Subject:
    model = config.register_.model_name
    registry = open_for_reading(config)
    registered = registry.version(version)
    if remote := config.register_.ledger_remote:  # another machine may have promoted since the last command here
        follow_if_behind(model, remote, registry.anchors())
    commit = commit_of(model, version)
    if commit is None:
        fix = "Fetch it: git fetch origin --tags 'refs/strop/*:refs/strop/*'"
        raise AuditError(
            f"git has neither the tag {tag_name(model, version)} nor a ref of a refused candidate", fix=fix
        )
    receipt = receipt_at(commit)
    if receipt is None:
        raise AuditError("holds no receipt", where=commit[:12], fix="It was not made by Strop: see git show")
    return Subject(config, model, registered, registry, commit, receipt, objects, digests, scratch)
