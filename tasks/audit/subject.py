"""A version under audit, and the result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks import paths
from tasks.audit.digests import Digests
from tasks.errors import AuditError, VersioningError
from tasks.model_store.ledger_chain import ChainNode, Refs, read_chain, read_refs
from tasks.model_store.ledger_entries import Entry, judgement_of, retired_versions
from tasks.vcs import dvc_outputs
from tasks.vcs.dvc_files import parse_yaml
from tasks.vcs.dvc_outputs import StoredFile
from tasks.vcs.git_objects import ObjectDamaged, Objects, TreeFile

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.tracking.model_versions import Version
    from tasks.tracking.readable import ReadableRegistry

State = Literal["ok", "unrecorded", "removed", "differs"]


@dataclass(frozen=True)
class Link:
    name: str
    ok: bool
    """False: something differs."""
    detail: str
    """The verified values, or the differences by file."""
    unrecorded: bool = False
    """The version was registered before this was recorded; everything that can be compared is as expected."""
    removed: bool = False
    """Retention removed the files; the ledger has who, when and why."""

    @property
    def state(self) -> State:
        if not self.ok:
            return "differs"
        return "removed" if self.removed else "unrecorded" if self.unrecorded else "ok"


def link(name: str, problems: list[str], summary: str, unrecorded: bool = False) -> Link:
    return Link(name, not problems, "; ".join(problems) if problems else summary, unrecorded and not problems)


@dataclass(frozen=True)
class Subject:
    """A version under audit. Data of git and DVC are read once."""

    config: PipelineConfig
    """The settings of the project, not of the version."""
    model: str
    version: Version
    registry: ReadableRegistry
    commit: str
    receipt: dict[str, Any]
    objects: Objects
    digests: Digests
    scratch: Path
    """A folder for the files of a registry on a server."""

    @cached_property
    def refs(self) -> Refs:
        return read_refs(self.model)

    @cached_property
    def chain(self) -> list[ChainNode]:
        """The ledger, not verified: its consistency is a check of its own."""
        return read_chain(self.model, self.refs.head, self.objects)

    @property
    def entry(self) -> Entry | None:
        """The entry with the verdict on the version."""
        return judgement_of([node.entry for node in self.chain], self.version.version)

    @property
    def retirement(self) -> Entry | None:
        """The entry that retired the version; its files were then removed."""
        return retired_versions([node.entry for node in self.chain]).get(self.version.version)

    @cached_property
    def tree(self) -> dict[str, TreeFile]:
        """Every file of the version commit; each tree is recomputed from its bytes."""
        return dict(self.objects.files(self.objects.commit(self.commit).tree))

    def blob(self, path: Path | str) -> bytes | None:
        """A file of the version commit, verified by its bytes; None where there is no such file."""
        file = self.tree.get(Path(path).as_posix())
        return self.read(Path(path).as_posix(), file) if file else None

    def read(self, path: str, file: TreeFile) -> bytes:
        """The bytes of a file of the commit. Raises AuditError with its path if they have changed."""
        try:
            return self.objects.read(file.oid, "blob").data
        except ObjectDamaged as error:
            what = f"in {self.commit[:12]} cannot be read: {error.what}"
            raise AuditError(what, where=path, fix=error.fix) from error

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Path → hash of every output of the version, from dvc.lock and data/raw.dvc of the commit."""
        return dvc_outputs.output_hashes(self.commit)

    @cached_property
    def _parsed(self) -> dict[Path, dict[str, Any]]:
        return {}

    def yaml(self, path: Path) -> dict[str, Any]:
        """The content of a YAML file of the version commit; {} where there is no such file."""
        if path not in self._parsed:
            content = self.blob(path)
            try:
                self._parsed[path] = parse_yaml(content) if content else {}
            except ValueError as error:
                raise AuditError(f"in {self.commit[:12]}: {error}", where=path.as_posix()) from error
        return self._parsed[path]

    @cached_property
    def logged_files(self) -> dict[str, Path]:
        """Relative path in the registry's model → its file."""
        return self.registry.model_files(self.version.source, self.scratch / "model")

    @cached_property
    def run_files(self) -> dict[str, Path]:
        """Relative path in the artifacts of the version's run → its file."""
        return self.registry.run_files(self.version.run_id, self.scratch / "run")

    @property
    def has_erasures(self) -> bool:
        """Whether rows were erased from the version's raw batches."""
        return any(file.erasure for file in self.stored(paths.RAW))

    @cached_property
    def outputs(self) -> dict[str, list[StoredFile] | None]:
        """Every output of the version, as `outputs_in_cache`: DVC is opened once for all of them."""
        return dvc_outputs.outputs_in_cache(self.commit)

    def stored(self, path: Path) -> list[StoredFile]:
        """The files of an output of the version, in DVC's cache; missing ones are fetched."""
        try:
            files = self.outputs.get(path.as_posix())
        except VersioningError:  # one listing is damaged: the others can still be read
            files = None
        if files is None or any(file.is_missing for file in files):
            return dvc_outputs.stored_files(self.commit, path)
        return files
