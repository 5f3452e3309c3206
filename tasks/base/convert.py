"""The base model as a plain Hugging Face folder on this disk; a GGUF file is converted once a machine, and kept by digest."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks import paths
from tasks.base.digests import known_digests
from tasks.base.pin import BaseRecord, verify_base
from tasks.base.shared import bases_folders, report_own_folder, why_untrusted
from tasks.base.staging import making_folder
from tasks.errors import BaseModelError, one_line
from tasks.runtime.files import content_digest, file_digest, read_json, write_json

CONVERTER = 1
"""To be raised when `_write` writes other bytes of the same file."""
DIGESTS = "strop-digests.json"
"""In a converted folder: name → sha256 of each of its files."""


def base_folder(record: BaseRecord) -> Path:
    """The folder that transformers can load. Verifies the pinned digests on the way, and those of a converted folder.

    Raises:
        BaseModelError: the base is not there, has changed, or cannot be converted.
    """
    places = verify_base(record)
    if record.kind in ("folder", "hub", "scratch"):
        return places["config.json"].parent
    name, folders = converted_name(record), bases_folders()
    for bases in folders:
        fault = _fault_of(bases, name)
        if fault is None:
            return bases / name
        if fault:
            print(f"base: {fault}; the base is converted again", flush=True)
    return _convert(next(iter(places.values())), record, folders)


def converted_name(record: BaseRecord) -> str:
    """What the converted folder is called: by the file's bytes, and by what converts it."""
    from importlib.metadata import PackageNotFoundError, version

    versions = []
    for library in ("gguf", "transformers"):
        try:
            versions.append(version(library))
        except PackageNotFoundError:
            versions.append("none")
    return content_digest([record.digest, CONVERTER, versions])[:32]


def _fault_of(bases: Path, name: str) -> str | None:
    """Why a converted folder cannot be used: "" where there is none; None where its bytes are those that were written.

    Files whose size and time did not change are not read again.
    """
    folder = bases / name
    if not (folder / DIGESTS).is_file():
        return ""
    if bases != paths.BASES and (reason := why_untrusted(folder)):
        return f"{folder} {reason}"
    try:
        expected: dict[str, str] = read_json(folder / DIGESTS)
        places = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.name != DIGESTS}
        found = known_digests(places)
    except (OSError, ValueError, TypeError) as error:
        return f"{folder} cannot be read ({' '.join(str(error).split())[:200]})"
    damaged = [file for file in expected if found.get(file) != expected[file]]
    if damaged:
        return f"{folder / damaged[0]} is damaged"
    return f"{folder / min(found.keys() - expected.keys())} does not belong to it" if found.keys() - expected else None


def _convert(gguf: Path, record: BaseRecord, folders: list[Path]) -> Path:
    """Converts a GGUF file into the first of the folders that can be written."""
    from safetensors import SafetensorError

    name, loaded = converted_name(record), None
    for bases in folders:
        try:
            with making_folder(bases) as temporary:
                if _fault_of(bases, name) is not None:  # or another process has made it meanwhile
                    loaded = loaded or _read(gguf)
                    _write(*loaded, temporary)
                    shutil.rmtree(bases / name, ignore_errors=True)
                    temporary.rename(bases / name)
                shutil.rmtree(record.folder, ignore_errors=True)  # an older version of Strop converted it there
                return bases / name
        except (OSError, NotImplementedError, SafetensorError) as error:
            if bases == paths.BASES:
                raise
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            report_own_folder(f"{bases} cannot be written ({reason})")
    raise AssertionError("the project's own folder is the last")


def _read(gguf: Path) -> tuple[Any, Any]:
    """Model (fp32) and tokenizer in a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    print(f"base: converting {gguf.name} once (about half a minute)", flush=True)
    logging.disable_progress_bar()
    try:
        # alone in a folder: files beside it would be read, too, and none pins them
        with TemporaryDirectory(prefix="strop-gguf-") as alone:
            (Path(alone) / gguf.name).symlink_to(gguf.resolve())
            quantised = AutoModelForCausalLM.from_pretrained(
                alone, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=gguf.name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise BaseModelError(
            f"cannot be read ({one_line(error, 200)})", where=str(gguf), fix="Set base.model"
        ) from error
    # the loaded model refuses save_pretrained ("quantized with gguf"): a fresh one of the same configuration takes its state
    config = quantised.config
    del config.quantization_config
    fresh = type(quantised)(config)
    fresh.load_state_dict(quantised.state_dict())
    fresh.generation_config = quantised.generation_config
    return fresh, tokenizer


def _write(model: Any, tokenizer: Any, folder: Path) -> None:
    """fp32 safetensors, which then load in under a second; the digests last."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / DIGESTS, {path.name: file_digest(path) for path in sorted(folder.iterdir())})
