"""The version to reproduce: its commit and receipt, and whether everything that its stages read can be obtained."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

from tasks import paths
from tasks.base.pin import BaseRecord, base_of, verify_base
from tasks.errors import AuditError, BaseModelError, StropError, VersioningError
from tasks.model_store.ledger import read_ledger
from tasks.model_store.ledger_entries import Entry, judgement_of, retired_versions
from tasks.model_store.versions import commit_of, initial_weights, receipt_at, tag_name, weights_folder
from tasks.reproduce.stage_order import in_order
from tasks.runtime.files import content_digest
from tasks.state.erasures import erasure_note
from tasks.vcs import dvc_outputs, git
from tasks.vcs.dvc_files import parse_yaml

FETCH = "Fetch it: git fetch origin --tags 'refs/strop/*:refs/strop/*'"
IN_A_FOLDER = ("folder", "gguf", "hub")
"""Kinds of bases whose files are outside of the environment. A base from scratch is created again in the clone."""


@dataclass(frozen=True)
class Version:
    model: str
    number: int
    commit: str
    receipt: dict[str, Any]
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)
    """What it does not record."""

    @property
    def name(self) -> str:
        return f"{self.model} v{self.number}"

    @cached_property
    def lock(self) -> dict[str, Any]:
        """Stage → its entry in the commit's dvc.lock, in the order in which they run."""
        stages = self._yaml(paths.DVC_LOCK).get("stages") or {}
        return in_order(stages, list(self._yaml(paths.DVC_YAML).get("stages") or {}))

    @cached_property
    def missing_stages(self) -> list[str]:
        """Stages of dvc.yaml without an entry in dvc.lock: they had not run when the version was registered."""
        ran = {name.partition("@")[0] for name in self.lock}
        return [name for name in self._yaml(paths.DVC_YAML).get("stages") or {} if name not in ran]

    def text(self, path: Path | str) -> str | None:
        content = git.read_at(self.commit, Path(path))
        return None if content is None else content.decode("utf-8", "replace")

    def _yaml(self, path: Path) -> dict[str, Any]:
        content = git.read_at(self.commit, path)
        try:
            return parse_yaml(content) if content else {}
        except ValueError as error:
            raise AuditError(f"in {self.commit[:12]}: {error}", where=path.as_posix()) from error

    @property
    def base(self) -> BaseRecord:
        return base_of(self.receipt["base"])

    @property
    def weights(self) -> dict[str, int]:
        """Digest → version, of the weights that its stages read: initial weights, teachers, and the champion to compare with."""
        champion = (self.receipt.get("round") or {}).get("champion")
        known = {entry.weights_digest: entry.version for entry in self.entries}
        if champion:
            known[champion["weights_digest"]] = champion["version"]
        digests = [*initial_weights(self.receipt), *([champion["weights_digest"]] if champion else [])]
        return {digest: known.get(digest, 0) for digest in dict.fromkeys(digests)}


def find_version(model: str, number: int) -> Version:
    """A version by its tag or the ref of a refused candidate. The registry is not read.

    Raises:
        LedgerBroken: the tag was moved or is missing, or the ledger is inconsistent in another way.
        AuditError: git has no commit of it, the commit has no receipt, or another than the ledger's.
    """
    entries = read_ledger(model)
    judgement = judgement_of(entries, number)
    commit = commit_of(model, number)
    if commit is None:
        known = ", ".join(f"v{entry.version}" for entry in entries if entry.kind == "judged") or "none"
        what = f"git has no commit of version {number} of {model} (tag {tag_name(model, number)})"
        fix = FETCH if judgement else f"The ledger has these versions: {known}"
        raise AuditError(what, fix=fix)
    receipt = receipt_at(commit)
    if receipt is None:
        raise AuditError("has no receipt", where=commit[:12], fix="It was not made by Strop: see git show")
    version = Version(model, number, commit, receipt, entries)
    if judgement is None:
        version.notes.append("the ledger here has no verdict on the version, so its receipt was not compared with it")
    elif judgement.receipt != content_digest(receipt):
        what = "its receipt is not the one that the ledger names"
        raise AuditError(what, where=version.name, fix=f"See what changed: strop audit {number}")
    if number in retired_versions(entries):
        version.notes.append("strop gc retired the version: outputs that it removed are compared by their hashes")
    return version


def require_inputs(version: Version, *, installed: bool) -> None:
    """Checks before any stage that raw rows, base and other models can be obtained.

    Args:
        installed: also a base in an installed package, which is that of this process.

    Raises:
        AuditError: rows were erased, or a file is missing; the line names it.
    """
    if not version.lock:
        raise AuditError(f"has no {paths.DVC_LOCK} with stages", where=version.name, fix="See: git show")
    _require_outputs_inside(version)
    raw = _obtain(version, "its raw rows", lambda: dvc_outputs.stored_files(version.commit, paths.RAW))
    if erased := erasure_note(file.erasure for file in raw):
        raise AuditError(f"cannot be rebuilt: {erased}", where=version.name)
    if version.base.kind in IN_A_FOLDER or (installed and version.base.kind == "package"):
        try:
            verify_base(version.base)
        except BaseModelError as error:
            what = f"its base cannot be used: {error.where + ': ' if error.where else ''}{error.what}"
            fix = "Restore the files that the receipt names, then run again"
            raise AuditError(what, where=version.name, fix=fix) from error
    for digest, number in version.weights.items():
        what = f"the weights of v{number}, which it was compared with or started from,"
        _obtain(version, what, partial(weights_folder, version.model, number, digest))


def _require_outputs_inside(version: Version) -> None:
    """An output elsewhere, which DVC permits, would be that of the project itself: written again, and compared with itself."""
    for name, stage in version.lock.items():
        for out in stage.get("outs") or ():
            path = PurePosixPath(os.path.normpath(str(out["path"])))
            if path.is_absolute() or path.parts[0] == "..":
                what = f"stage `{name}` writes {out['path']}, outside of the project: it cannot be made again apart from it"
                raise AuditError(what, where=version.name, fix="Nothing was changed. See: git show")


def _obtain(version: Version, what: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except VersioningError as error:
        fix = error.fix or "Set a DVC remote that has the files: dvc remote add --default NAME URL"
        raise AuditError(f"{what} cannot be obtained: {error.what}", where=version.name, fix=fix) from error
    except StropError as error:
        raise AuditError(f"{what} cannot be obtained: {error}", where=version.name) from error
