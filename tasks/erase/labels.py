"""The labels' names that stand in rendered rows (data/rendered/labels/*.json), where only erased rows had such a label.

A file that a model holds too, byte for byte, stays: without the names of its labels the model could not be used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.erase.plan import Plan
from tasks.state.erasures import read_erasures

FOLDER = "labels"
"""In data/rendered."""
NAMES = f"{FOLDER}/labels.json"


@dataclass(frozen=True)
class RenderedFiles:
    """A version's data/rendered."""

    files: dict[str, str]
    """Place in it → md5."""
    has_row: bool
    """It may hold one of the rows."""


def label_files_that_go(odb: Any, versions: list[RenderedFiles], plan: Plan) -> tuple[set[str], set[str]]:
    """The labels that only erased rows have, and md5 of the files that name one of them, or that cannot be looked at.

    The latter are those of versions that have one of the rows, of which labels or examples do not lie in the cache.
    """
    erased = np.array(sorted({*plan.ids, *(row_id for each in read_erasures() for row_id in each.ids)}), "S32")
    unlike: dict[str, RenderedFiles] = {json.dumps([each.files, each.has_row]): each for each in versions}
    of_erased: set[str] = set()
    of_others: set[str] = set()
    found: set[str] = set()
    for version in unlike.values():
        try:
            for labels, ids in _examples(odb, version.files):
                gone = np.isin(ids, erased)
                of_erased |= set(labels[gone].tolist())
                of_others |= set(labels[~gone].tolist())
        except FileNotFoundError:
            if version.has_row:
                found |= set(_label_files(version.files))
    lonely = of_erased - of_others
    for md5 in {md5 for version in unlike.values() for md5 in _label_files(version.files)}:
        path = Path(odb.oid_to_path(md5))
        if lonely and (not path.exists() or names_one(path, lonely)):
            found.add(md5)
    return lonely, found


def names_one(path: Path, labels: set[str]) -> bool:
    """Whether a file is built as one that names labels, and names one of these."""
    if not labels:
        return False
    with path.open("rb") as file:
        if file.read(1) not in (b"[", b"{"):
            return False
    return not labels.isdisjoint(_texts_in(path))


def _label_files(files: dict[str, str]) -> list[str]:
    return [md5 for name, md5 in files.items() if name.startswith(f"{FOLDER}/") and name.endswith(".json")]


def _examples(odb: Any, files: dict[str, str]) -> Iterator[tuple[Any, Any]]:
    """Label and row id of each example, a split at a time.

    Raises:
        FileNotFoundError: one of the files is not in the cache.
    """
    if NAMES not in files:
        return
    names = np.array(json.loads(Path(odb.oid_to_path(files[NAMES])).read_bytes()), object)
    for name in files:
        if name.startswith(f"{FOLDER}/") and name.endswith("/labels.npy"):
            ids = files[name.removesuffix("labels.npy") + "ids.npy"]
            places = np.load(odb.oid_to_path(files[name]), allow_pickle=False)
            yield names[places], np.load(odb.oid_to_path(ids), allow_pickle=False)


def _texts_in(path: Path) -> list[str]:
    """What a list of texts, or an object that names a text each, says; nothing of any other file."""
    try:
        said = json.loads(path.read_bytes())
    except ValueError:
        return []
    values = list(said.values()) if isinstance(said, dict) else said
    return values if isinstance(values, list) and all(isinstance(value, str) for value in values) else []
