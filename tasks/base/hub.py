"""A base model of the Hugging Face hub: the commit of an id, and its folder in the local cache."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import BaseModelError
from tasks.runtime.files import read_json


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


def hub_folder(model: str, revision: str | None, suffixes: Iterable[str], *, downloads: bool = True) -> Path:
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
