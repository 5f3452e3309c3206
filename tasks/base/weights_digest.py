"""The identity of trained weights: a digest over the safetensors files of a model folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import DataError
from tasks.runtime.files import content_digest, file_digest


def weights_digest(folder: Path) -> str:
    """sha256 (64 hex characters) over names and bytes of all `*.safetensors` in `folder`.

    Raises:
        DataError: there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise DataError("has no *.safetensors", where=str(folder), fix="Train it: dvc repro finetune")
    return digest_of_files(files)


def digest_of_files(files: Iterable[Path]) -> str:
    """The same for files in any folders."""
    return content_digest([[file.name, file_digest(file)] for file in sorted(files, key=lambda file: file.name)])
