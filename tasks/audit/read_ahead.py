"""The files that a deep walk reads, and the digest that each needs: they are read in threads before the links are checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tasks import paths
from tasks.audit.digests import Algorithm
from tasks.audit.subject import Subject
from tasks.base.pin import base_of, verify_base
from tasks.errors import StropError

Files = Iterator[tuple[Algorithm, Path]]


def files_to_read(subject: Subject, names: tuple[str, ...] | None) -> list[tuple[Algorithm, Path]]:
    """The files on this disk that the links read; all links, or some by name. A part that cannot be listed is left to its link."""
    parts = {"raw batches": _outputs, "base": _base, "registry files": _logged}
    files: list[tuple[Algorithm, Path]] = []
    for name, listed in parts.items():
        if names is None or name in names:
            with contextlib.suppress(StropError, OSError, ValueError, KeyError, TypeError):
                files += listed(subject, only_data=names is not None)
    return files


def _outputs(subject: Subject, only_data: bool) -> Files:
    """Raw batches and weights are known by sha256, in manifest and receipt; everything else by DVC's md5."""
    for output, files in subject.outputs.items():
        if only_data and Path(output) not in (paths.RAW, paths.CURATED):
            continue
        for file in files or ():
            if file.is_gone or file.is_missing:
                continue
            is_batch = Path(output) == paths.RAW and file.relpath.endswith(".parquet")
            is_weights = Path(output) == paths.MODEL and file.relpath.endswith(".safetensors")
            yield "sha256" if is_batch or is_weights else "md5", file.path
            if is_batch:
                yield "sha256", paths.RAW / file.relpath


def _base(subject: Subject, only_data: bool) -> Files:
    record = base_of(subject.receipt["base"])
    listed = verify_base(record, digests_of=lambda files: {name: record.files.get(name, "") for name in files})
    for path in listed.values():
        yield "sha256", path


def _logged(subject: Subject, only_data: bool) -> Files:
    for path in subject.logged_files.values():
        yield "sha256", path
