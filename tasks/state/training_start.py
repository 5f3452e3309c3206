"""What the trainings of a round begin with, besides the base: data/start.json, fixed when the round begins.

It names the forms that `render` writes, the champion whose weights are trained on (`continue_from: champion`), and the registered
versions that teach or judge (a teacher, a reward model). `render` looks here, and not into `finetune:` of params.yaml, so that
another learning rate renders nothing anew. It changes only when data, parameters or code have: a promotion,
or judging again, trains nothing anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tasks import paths
from tasks.errors import DataError
from tasks.runtime.files import folder_digest, write_json
from tasks.runtime.run_origin import written_path
from tasks.state.round import Champion


@dataclass(frozen=True)
class Start:
    forms: tuple[str, ...] = ("answers",)
    """The forms of rows that the trainings need; the candidate's is the last."""
    champion: Champion | None = None
    """Whose weights are trained on, and what rows they know; None: the base."""
    replay_share: float = 1.0
    """The share of the rows that the champion knows that is trained on again."""
    versions: dict[str, str] = field(default_factory=dict)
    """What params.yaml calls a registered version (`champion`, `3`) → the digest of its weights, in .strop/models/."""
    folders: dict[str, str] = field(default_factory=dict)
    """A folder that params.yaml names as a teacher or reward model → the digest of what was in it."""


def read_start() -> Start:
    """The start of this round; where none was begun, answers are trained on the base.

    Raises:
        DataError: the file is damaged.
    """
    return parse_start(paths.START.read_bytes()) if paths.START.exists() else Start()


def parse_start(content: str | bytes) -> Start:
    """The content of a data/start.json. Raises DataError where it is damaged."""
    try:
        entry = json.loads(content)
        found = entry["champion"]
        champion = Champion(found["version"], found["weights_digest"], tuple(found["batches"])) if found else None
        return Start(
            tuple(entry["forms"]),
            champion,
            float(entry.get("replay_share", 1.0)),
            dict(entry.get("versions", {})),
            dict(entry.get("folders", {})),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        fix = f"Begin the round anew: rm {paths.START}, then python -m tasks ingest"
        raise DataError(f"damaged ({error})", where=str(paths.START), fix=fix) from error


def write_start(start: Start) -> None:
    write_json(paths.START, asdict(start))


def start_folder() -> Path | None:
    """The folder of the weights that the first training goes on from; None: the base."""
    champion = read_start().champion
    return None if champion is None else paths.MODELS / champion.weights_digest


def version_folder(name: str) -> Path:
    """The folder of a model that params.yaml names: of a registered version, or the one that it names itself.

    Raises:
        DataError: there is none, or its files are no longer those that were there when the round began.
    """
    start, folder = read_start(), written_path(name)
    if name in start.versions:
        return paths.MODELS / start.versions[name]
    if not folder.is_dir():
        fix = "Begin the round: python -m tasks ingest; see the versions: strop history"
        raise DataError("no such folder, and no such version when the round began", where=name, fix=fix)
    if name in start.folders and folder_digest(folder) != start.folders[name]:
        fix = "Put the old files back, or take the new ones: python -m tasks ingest"
        raise DataError("its files have changed since the round began", where=name, fix=fix)
    return folder
