"""Audits a version: recomputes every link from the registered model back to the raw rows, against its receipt.

for link in audit(config, 3): print(link.name, link.ok, link.detail)
links = rebuild(config, 3)        # clones the version, rebuilds it, and compares the weights
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.audit.links import check_all
from tasks.audit.rebuild import rebuild_weights
from tasks.audit.subject import Link, Subject
from tasks.errors import AuditError
from tasks.model_store.versions import commit_of, receipt_at, tag_name
from tasks.tracking.registry import open_registry
from tasks.vcs.git_objects import Objects

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

__all__ = ["Link", "audit", "rebuild"]


def audit(config: PipelineConfig, version: int) -> list[Link]:
    """The result of every link, in order.

    Raises:
        RegistryError: there is no such version.
        AuditError: its commit or receipt is missing, so there is nothing to compare with.
    """
    with Objects() as objects:
        return list(check_all(_subject(config, version, objects)))


def rebuild(config: PipelineConfig, version: int) -> list[Link]:
    """Rebuilds the version from its tag alone, without any cache, and compares. Takes as long as its training."""
    with Objects() as objects:
        return rebuild_weights(_subject(config, version, objects))


def _subject(config: PipelineConfig, version: int, objects: Objects) -> Subject:
    model = config.register_.model_name
    registry = open_registry(config)
    registered = registry.version(version)
    commit = commit_of(model, version)
    if commit is None:
        fix = "Fetch it: git fetch origin --tags 'refs/strop/*:refs/strop/*'"
        raise AuditError(
            f"git has neither the tag {tag_name(model, version)} nor a ref of a refused candidate", fix=fix
        )
    receipt = receipt_at(commit)
    if receipt is None:
        raise AuditError("holds no receipt", where=commit[:12], fix="It was not made by Strop: see git show")
    return Subject(model, registered, registry, commit, receipt, objects)
