"""Label names in rendered rows (data/rendered/labels/*.json) that occur in erased rows only.

A file that is byte for byte part of a model stays: without its label names the model could not be used.
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
"""Folder in data/rendered."""
NAMES = f"{FOLDER}/labels.json"


@dataclass(frozen=True)
class RenderedFiles:
    """The files of data/rendered in one version."""

    files: dict[str, str]
    """Relative path → md5."""
    has_row: bool
    """Whether it may contain one of the rows."""


def label_files_to_remove(odb: Any, versions: list[RenderedFiles], plan: Plan) -> tuple[set[str], set[str]]:
    """The labels that only erased rows have, and the md5 of the label files to remove.

    These name one of the labels, or belong to a version with one of the rows whose labels or examples are not in the cache.
    """
    erased = np.array(sorted({*plan.ids, *(row_id for erasure in read_erasures() for row_id in erasure.ids)}), "S32")
    distinct: dict[str, RenderedFiles] = {json.dumps([v.files, v.has_row]): v for v in versions}
    of_erased: set[str] = set()
    of_others: set[str] = set()
    files: set[str] = set()
    for version in distinct.values():
        try:
            for labels, ids in _examples(odb, version.files):
                is_erased = np.isin(ids, erased)
                of_erased |= set(labels[is_erased].tolist())
                of_others |= set(labels[~is_erased].tolist())
        except FileNotFoundError:
            if version.has_row:
                files |= set(_label_files(version.files))
    only_erased = of_erased - of_others
    for md5 in {md5 for version in distinct.values() for md5 in _label_files(version.files)}:
        path = Path(odb.oid_to_path(md5))
        if only_erased and (not path.exists() or names_any(path, only_erased)):
            files.add(md5)
    return only_erased, files


def names_any(path: Path, labels: set[str]) -> bool:
    """Whether a file has the format of a label file and contains one of these labels."""
    if not labels:
        return False
    with path.open("rb") as file:
        if file.read(1) not in (b"[", b"{"):
            return False
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    values = list(content.values() if isinstance(content, dict) else content)
    return all(isinstance(value, str) for value in values) and not labels.isdisjoint(values)


def _label_files(files: dict[str, str]) -> list[str]:
    return [md5 for name, md5 in files.items() if name.startswith(f"{FOLDER}/") and name.endswith(".json")]


def _examples(odb: Any, files: dict[str, str]) -> Iterator[tuple[Any, Any]]:
    """Labels and row ids of the examples, split by split.

    Raises:
        FileNotFoundError: one of the files is not in the cache.
    """
    if NAMES not in files:
        return
    names = np.array(json.loads(Path(odb.oid_to_path(files[NAMES])).read_bytes()), object)
    for name in files:
        if name.startswith(f"{FOLDER}/") and name.endswith("/labels.npy"):
            ids = files[name.removesuffix("labels.npy") + "ids.npy"]
            indices = np.load(odb.oid_to_path(files[name]), allow_pickle=False)
            yield names[indices], np.load(odb.oid_to_path(ids), allow_pickle=False)
