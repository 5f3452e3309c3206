"""A base model of the Hugging Face hub: which commit an id stands for, and its folder in the local cache."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import BaseModelError


def newest_revision(model: str, revision: str | None) -> str:
    """The commit that a hub id and an optional revision stand for; from the local cache where the hub cannot be reached.

    Raises:
        BaseModelError: neither knows it.
    """
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


def hub_folder(model: str, revision: str | None, suffixes: Iterable[str]) -> Path:
    """Where the files with these endings lie; they are fetched if they are not there.

    Raises:
        BaseModelError: they are not there, and cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in suffixes]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(
            f"could not be fetched from the model hub ({type(error).__name__})",
            where=model,
            fix="Go online, then run again",
        ) from error
