"""The training start of a round: data/start.json, fixed when the round begins.

It has the forms and further test rows that `render` writes, the champion whose training continues (`continue_from: champion`), and
the registered versions used as teacher or reward model. `render` depends on this file, not on `finetune:` and `evaluate:` in
params.yaml, so that another learning rate does not render again. It changes only if data, parameters or code changed: a promotion
or a new verdict trains nothing.
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
    """The forms that the trainings need; the candidate's is the last."""
    champion: Champion | None = None
    """The model whose training continues, with its batches; None: the base."""
    replay_share: float = 1.0
    """The share of the champion's training rows that are trained on again."""
    versions: dict[str, str] = field(default_factory=dict)
    """A registered version as in params.yaml (`champion`, `3`) → the digest of its weights, in .strop/models/."""
    folders: dict[str, str] = field(default_factory=dict)
    """A folder in params.yaml (a teacher or reward model) → the digest of its files."""
    anchors: str | None = None
    """`evaluate.anchors`."""
    shots: int = 0
    """`evaluate.shots`."""
    answer_tokens: int = 0
    """`evaluate.max_new_tokens`, which prompts with examples leave free in the context; 0 without `shots`."""


def read_start() -> Start:
    """The training start of this round; the default trains answers from the base.

    Raises:
        DataError: the file is damaged.
    """
    return parse_start(paths.START.read_bytes()) if paths.START.exists() else Start()


def parse_start(content: str | bytes) -> Start:
    """Parses a data/start.json. Raises DataError if it is damaged."""
    try:
        entry = json.loads(content)
        fields = entry["champion"]
        champion = Champion(fields["version"], fields["weights_digest"], tuple(fields["batches"])) if fields else None
        return Start(
            tuple(entry["forms"]),
            champion,
            float(entry.get("replay_share", 1.0)),
            dict(entry.get("versions", {})),
            dict(entry.get("folders", {})),
            entry.get("anchors"),
            int(entry.get("shots", 0)),
            int(entry.get("answer_tokens", 0)),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        fix = f"Start a new round: rm {paths.START}, then python -m tasks ingest"
        raise DataError(f"damaged ({error})", where=str(paths.START), fix=fix) from error


def write_start(start: Start) -> None:
    write_json(paths.START, asdict(start))


def start_folder() -> Path | None:
    """The folder of the initial weights of the first training; None: the base."""
    champion = read_start().champion
    return None if champion is None else paths.MODELS / champion.weights_digest


def version_folder(name: str) -> Path:
    """The folder of a model in params.yaml: of a registered version, or a folder given by path.

    Raises:
        DataError: it does not exist, or its files have changed since the round began.
    """
    start, folder = read_start(), written_path(name)
    if name in start.versions:
        return paths.MODELS / start.versions[name]
    if not folder.is_dir():
        fix = "Start a round: python -m tasks ingest; see the versions: strop history"
        raise DataError("no such folder, and no such version when the round began", where=name, fix=fix)
    if name in start.folders and folder_digest(folder) != start.folders[name]:
        fix = "Restore the old files, or use the new ones: python -m tasks ingest"
        raise DataError("its files have changed since the round began", where=name, fix=fix)
    return folder
