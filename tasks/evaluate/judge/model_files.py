"""The files and the name of a judge that is a local model. Without torch: the checks before a run use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.base.digests import cached_digests
from tasks.base.files import locate_files, newest_revision
from tasks.base.settings import is_folder
from tasks.errors import BaseModelError, ConfigError
from tasks.evaluate.judge.settings import JudgeSettings
from tasks.runtime.files import content_digest, read_json
from tasks.runtime.run_origin import written_path

WHERE = "evaluate.judge.model"
FIX = "Set it to the folder of a model, connect to the network once for a hub id, or set evaluate.judge.base_url"


@dataclass(frozen=True)
class JudgeFiles:
    folder: Path
    digest: str
    """sha256 over names and bytes of its files."""


def find_judge(name: str) -> JudgeFiles:
    """The files of a model; those of a hub id are downloaded if they are missing.

    Raises:
        ConfigError: there is no such model.
    """
    try:
        kind = "folder" if is_folder(name) or written_path(name).is_dir() else "hub"
        files = locate_files(name, kind, newest_revision(name, None) if kind == "hub" else None)
        return JudgeFiles(files["config.json"].parent, content_digest(cached_digests(files)))
    except (BaseModelError, KeyError, OSError) as error:
        what = error.what if isinstance(error, BaseModelError) else "is no folder of a model"
        raise ConfigError(f"{name} {what}", where=WHERE, fix=FIX) from error


def judge_name(settings: JudgeSettings, folder: Path | None = None) -> str:
    """The name by which the family of its model is known: that of the settings, and the architecture of a folder.

    Args:
        folder: of its files; None: the folder that the settings name, if they do.
    """
    try:
        return f"{settings.model} {read_json((folder or written_path(settings.model)) / 'config.json')['model_type']}"
    except (OSError, ValueError, KeyError, TypeError):
        return settings.model
