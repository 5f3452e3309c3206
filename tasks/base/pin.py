"""Pins the base model in data/base.json: its id, revision and the sha256 of each of its files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.digests import cached_digests
from tasks.base.files import Kind, files_in, kind_of, locate_files, newest_revision, would_download
from tasks.base.scratch import create_base, explain_difference, origin_of
from tasks.base.settings import SCRATCH, BaseSettings, ScratchSettings
from tasks.base.staging import staging_folder
from tasks.base.vocabulary import require_embeddings
from tasks.errors import BaseModelError
from tasks.runtime.files import content_digest, damage_reason, file_digest, read_json, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseRecord:
    id: str
    """As set in params.yaml."""
    kind: Kind
    revision: str | None
    """The commit of a hub id."""
    files: dict[str, str]
    """Name → sha256 (64 hex characters)."""
    origin: dict[str, Any] | None = None
    """For a base from scratch: its settings, the batches of its tokenizer's training text, and library versions."""
    remote_code: bool = False
    """May the code among its files run? (`base.trust_remote_code`)"""

    @cached_property
    def digest(self) -> str:
        """sha256 (64 hex characters) over names and bytes; equal for copies of a model."""
        return content_digest(self.files)

    @property
    def folder(self) -> Path:
        """Folder of a base from scratch."""
        return paths.BASES / self.digest[:16]

    def entry(self) -> dict[str, Any]:
        """The entry in data/base.json and in receipts."""
        defaults = {"origin": None, "remote_code": False}
        return {name: value for name, value in asdict(self).items() if name not in defaults or value != defaults[name]}


def base_of(recorded: dict[str, Any]) -> BaseRecord:
    """The base in a receipt."""
    return BaseRecord(**{key: value for key, value in recorded.items() if key != "digest"})


def pin_base(settings: BaseSettings) -> BaseRecord:
    """Resolves the base model, and pins it in data/base.json the first time or when params.yaml names another one.

    Raises:
        BaseModelError: it is missing, or its files differ from the pinned ones.
    """
    if (pinned := _pinned_base(settings)) is not None:
        verify_base(pinned)
        return pinned
    scratch = settings.scratch_settings()
    if scratch is not None:
        record = _create_scratch_base(origin_of(scratch))
    else:
        kind = kind_of(settings.model)
        record = _record_of(
            settings, kind, newest_revision(settings.model, settings.revision) if kind == "hub" else None
        )
    if not paths.BASE.exists() or read_base() != record:
        write_json(paths.BASE, record.entry())
    return record


def find_base(settings: BaseSettings) -> BaseRecord | None:
    """The base model as `pin_base` would pin it, but nothing is written, created or downloaded. None where it does not exist
    yet: it is created from the first rows, or downloaded from the hub.

    Raises:
        BaseModelError: it is missing, or its files differ from the pinned ones.
    """
    if (pinned := _pinned_base(settings)) is not None:
        if pinned.kind == "scratch" and not pinned.folder.exists():
            return None
        if pinned.kind == "hub" and would_download(pinned.id, pinned.revision, pinned.files):
            return None
        verify_base(pinned, downloads=False)
        return pinned
    if settings.scratch_settings() is not None:
        return None
    kind = kind_of(settings.model)
    revision = newest_revision(settings.model, settings.revision) if kind == "hub" else None
    if kind == "hub" and would_download(settings.model, revision):
        return None
    return _record_of(settings, kind, revision, downloads=False)


def _pinned_base(settings: BaseSettings) -> BaseRecord | None:
    """The pinned base if it is the one that the settings name."""
    if not paths.BASE.exists():
        return None
    pinned = read_base()
    scratch = ScratchSettings(**pinned.origin["settings"]) if pinned.origin else None
    is_same = pinned.id == settings.model and settings.revision in (None, pinned.revision)
    is_same = is_same and scratch == settings.scratch_settings() and pinned.remote_code == settings.trust_remote_code
    return pinned if is_same else None


def read_base() -> BaseRecord:
    """The pinned base model.

    Raises:
        BaseModelError: data/base.json is missing or damaged.
    """
    try:
        return BaseRecord(**read_json(paths.BASE))
    except FileNotFoundError as error:
        raise BaseModelError("not found", where=str(paths.BASE), fix="Pin the base: python -m tasks ingest") from error
    except (ValueError, TypeError) as error:
        raise BaseModelError(
            f"damaged ({damage_reason(error)})", where=str(paths.BASE), fix="Remove it and run again"
        ) from error


def verify_base(
    record: BaseRecord,
    *,
    digests_of: Callable[[dict[str, Path]], dict[str, str]] = cached_digests,
    downloads: bool = True,
) -> dict[str, Path]:
    """Checks that the files on this disk are exactly the pinned ones, and returns their paths. A missing base from scratch is
    created again.

    Args:
        digests_of: name → sha256 of the files. The default does not read a file again whose size, times and inode are unchanged.
        downloads: download the missing files of a base of the hub.

    Raises:
        BaseModelError: a file is missing, differs or was added; the line names it.
    """
    if record.origin is None:
        files = locate_files(record.id, record.kind, record.revision, record.remote_code, downloads=downloads)
    else:
        _require_scratch_base(record, record.origin)
        files = files_in(record.folder)
    digests = digests_of(files)
    for name in sorted({*record.files, *digests}):
        current, pinned = digests.get(name), record.files.get(name)
        if current != pinned:
            state, remedy = _difference(current, pinned)
            fix = f"{remedy}; or accept the current model: rm {paths.BASE}, then run again"
            raise BaseModelError(
                f"base model {record.id}: {name} {state} since the base was pinned in {paths.BASE}",
                fix=fix if record.origin is None else f"Create it again: rm -r {record.folder}, then run again",
            )
    return {name: files[name] for name in record.files}


def _difference(current: str | None, pinned: str | None) -> tuple[str, str]:
    """How a file differs from its pinned digest, and how to undo it."""
    if pinned is None:
        return "was added, and may be loaded with it,", "Remove it"
    if current is None:
        return "is missing", "Restore it"
    return f"has changed (sha256 {current[:12]}…, pinned {pinned[:12]}…)", "Restore the pinned file"


def _record_of(settings: BaseSettings, kind: Kind, revision: str | None, *, downloads: bool = True) -> BaseRecord:
    """The base model, which is not from scratch."""
    model, has_code = settings.model, settings.trust_remote_code
    files = locate_files(model, kind, revision, has_code, downloads=downloads)
    if kind in ("folder", "hub"):
        require_embeddings(files["config.json"].parent, model)
    return BaseRecord(model, kind, revision, cached_digests(files), remote_code=has_code)


def _create_scratch_base(origin: dict[str, Any]) -> BaseRecord:
    """Creates the base from `origin`, in the folder of its digest."""
    with staging_folder() as folder:
        create_base(origin, folder)
        files = {name: file_digest(path) for name, path in files_in(folder).items()}
        record = BaseRecord(SCRATCH, "scratch", None, files, origin)
        if not record.folder.exists():
            folder.rename(record.folder)
    return record


def _require_scratch_base(record: BaseRecord, origin: dict[str, Any]) -> None:
    """Creates a base from scratch again if it is not on this disk."""
    if record.folder.exists():
        return
    logger.info("base: creating the base from scratch again, from the rows in data/raw")
    created = _create_scratch_base(origin)
    if created.digest != record.digest:
        names = [name for name in record.files if created.files.get(name) != record.files[name]]
        raise BaseModelError(
            f"the base created again from its rows differs: {', '.join(names)}; {explain_difference(origin)}",
            where=str(paths.BASE),
            fix=f"Create it in the original environment; or accept the current base: rm {paths.BASE}, then run again",
        )
