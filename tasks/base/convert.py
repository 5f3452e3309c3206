"""The base model as a Hugging Face folder on this disk; a GGUF file is converted once per machine, and stored by digest.

The machine's folder of converted bases is `$STROP_CACHE/bases`, else `$XDG_CACHE_HOME/strop/bases`, else
`~/.cache/strop/bases`. A project uses its own .strop/bases if that folder is not writable, or writable by other users.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks import paths
from tasks.base.digests import cached_digests
from tasks.base.pin import BaseRecord, verify_base
from tasks.base.staging import staging_folder
from tasks.errors import BaseModelError, one_line
from tasks.runtime.files import content_digest, file_digest, read_json, write_json

logger = logging.getLogger(__name__)

CONVERTER = 1
"""Increase it when `_write` writes other bytes for the same file."""
DIGESTS = "strop-digests.json"
"""In a converted folder: name → sha256 of each of its files."""
CACHE = "STROP_CACHE"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def base_folder(record: BaseRecord) -> Path:
    """The folder that transformers can load. Verifies the pinned digests, and those of a converted folder.

    Raises:
        BaseModelError: the base is missing, has changed, or cannot be converted.
    """
    files = verify_base(record)
    if record.kind in ("folder", "hub", "scratch"):
        return files["config.json"].parent
    name, folders = converted_name(record), bases_folders()
    for bases in folders:
        problem = _problem_of(bases, name)
        if problem is None:
            return bases / name
        if problem:
            logger.warning(f"base: {problem}; the base is converted again")
    return _convert(next(iter(files.values())), record, folders)


def converted_folder(record: BaseRecord) -> Path | None:
    """The intact folder that a GGUF file was converted into; None where there is none yet."""
    name = converted_name(record)
    return next((bases / name for bases in bases_folders() if _problem_of(bases, name) is None), None)


def converted_name(record: BaseRecord) -> str:
    """Name of the converted folder: a digest of the file's bytes and the converter's versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = []
    for library in ("gguf", "transformers"):
        try:
            versions.append(version(library))
        except PackageNotFoundError:
            versions.append("none")
    return content_digest([record.digest, CONVERTER, versions])[:32]


def _problem_of(bases: Path, name: str) -> str | None:
    """Why a converted folder cannot be used: "" if it does not exist; None if it is intact.

    Files with an unchanged size and time are not read again.
    """
    folder = bases / name
    if not (folder / DIGESTS).is_file():
        return ""
    if bases != paths.BASES and (reason := _why_untrusted(folder)):
        return f"{folder} {reason}"
    try:
        expected: dict[str, str] = read_json(folder / DIGESTS)
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.name != DIGESTS}
        digests = cached_digests(files)
    except (OSError, ValueError, TypeError) as error:
        return f"{folder} cannot be read ({' '.join(str(error).split())[:200]})"
    damaged = [file for file in expected if digests.get(file) != expected[file]]
    if damaged:
        return f"{folder / damaged[0]} is damaged"
    unexpected = digests.keys() - expected
    return f"{folder / min(unexpected)} does not belong to it" if unexpected else None


def _convert(gguf: Path, record: BaseRecord, folders: list[Path]) -> Path:
    """Converts a GGUF file into the first writable folder."""
    from safetensors import SafetensorError

    name, loaded = converted_name(record), None
    for bases in folders:
        try:
            with staging_folder(bases) as temporary:
                if _problem_of(bases, name) is not None:  # another process may have converted it meanwhile
                    loaded = loaded or _read(gguf)
                    _write(*loaded, temporary)
                    shutil.rmtree(bases / name, ignore_errors=True)
                    temporary.rename(bases / name)
                shutil.rmtree(record.folder, ignore_errors=True)  # where an older version of Strop stored it
                return bases / name
        except (OSError, NotImplementedError, SafetensorError) as error:
            if bases == paths.BASES:
                raise
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            _report_own_folder(f"{bases} cannot be written ({reason})")
    raise AssertionError("the project's own folder is the last")


def _read(gguf: Path) -> tuple[Any, Any]:
    """Model (fp32) and tokenizer in a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    logger.info(f"base: converting {gguf.name} once (about half a minute)")
    disable_progress_bar()
    try:
        # in a folder of its own, as transformers would also read unpinned files next to it
        with TemporaryDirectory(prefix="strop-gguf-") as folder:
            (Path(folder) / gguf.name).symlink_to(gguf.resolve())
            quantised = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise BaseModelError(
            f"cannot be read ({one_line(error, 200)})", where=str(gguf), fix="Set base.model"
        ) from error
    # save_pretrained rejects the loaded model ("quantized with gguf"), so its state is copied into a fresh one
    config = quantised.config
    del config.quantization_config
    fresh = type(quantised)(config)
    fresh.load_state_dict(quantised.state_dict())
    fresh.generation_config = quantised.generation_config
    return fresh, tokenizer


def _write(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes fp32 safetensors, which load in under a second; the digests come last."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / DIGESTS, {path.name: file_digest(path) for path in sorted(folder.iterdir())})


def bases_folders() -> list[Path]:
    """The folders of converted bases: the machine's, if it can be used, then the project's own."""
    try:
        folder = _shared_folder()
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        reason = error.strerror if isinstance(error, OSError) else str(error)
        _report_own_folder(f"the cache of this machine cannot be used ({reason}; {CACHE} names another folder)")
        return [paths.BASES]
    for path in (folder.parent, folder):
        if reason := _why_untrusted(path):
            _report_own_folder(f"{path} {reason}")
            return [paths.BASES]
    return [folder, paths.BASES]


def _why_untrusted(folder: Path) -> str | None:
    """Why another user may have written into the folder; None if none can have."""
    status = folder.stat()
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return "belongs to another user"
    if os.name == "posix" and status.st_mode & OTHERS_WRITE:
        return "is writable by other users (fix: chmod go-w)"
    return None


def _report_own_folder(reason: str) -> None:
    logger.warning(f"base: {reason}: the converted base is stored in {paths.BASES} of this project instead")


def _shared_folder() -> Path:
    if configured := os.environ.get(CACHE):
        return Path(configured).expanduser().absolute() / "bases"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the XDG specification ignores relative paths
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "strop" / "bases"
