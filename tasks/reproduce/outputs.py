"""Compares an output of a stage with the recorded one: by hash, and where it differs by content."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import VersioningError, one_line
from tasks.reproduce.differences.numbers import OF_ONE_RUN, json_difference
from tasks.reproduce.differences.tables import table_difference
from tasks.reproduce.differences.tensors import tensor_difference
from tasks.reproduce.result import OutputResult
from tasks.runtime.files import files_below, md5_of
from tasks.runtime.plurals import count_of
from tasks.vcs import dvc_outputs

Files = Mapping[str, Path]
Difference = tuple[bool, str, dict[str, Any]]
"""Whether the content is the same, the difference as text, and as numbers."""


def compare_output(commit: str, path: str, recorded: str | None, new: str | None, clone: Path) -> OutputResult:
    """Compares an output by its hash; by its content where the hashes differ.

    Args:
        recorded: the hash in the commit's dvc.lock.
        new: that in the clone's.
    """
    if recorded is None:
        return OutputResult(path, "not compared", "the version records no hash of it")
    if new == recorded:
        return OutputResult(path, "identical")
    if new is None:
        return OutputResult(path, "differs", "the stage did not write it")
    try:
        files = dvc_outputs.stored_files(commit, Path(path))
    except VersioningError:
        what = "its hash; the recorded files are neither in the local cache nor in a remote"
        return OutputResult(path, "differs", what, {"recorded": recorded, "new": new})
    if changed := _changed_in_cache(recorded, files):
        what = f"its hash; {changed} in DVC's cache has not the recorded bytes, so its content cannot be compared"
        return OutputResult(path, "differs", what, {"recorded": recorded, "new": new})
    target = clone / path
    made = files_below(target) if target.is_dir() else {"": target}
    return compare_files(path, {file.relpath: file.path for file in files if not file.is_gone}, made)


def _changed_in_cache(recorded: str, files: Sequence[dvc_outputs.StoredFile]) -> str:
    """The first file in DVC's cache that is not the recorded one: a comparison with it would say nothing about the version."""
    digest = recorded.removesuffix(".dir")
    if digest != recorded and md5_of(dvc_outputs.path_in_cache(recorded)) != digest:
        return "the listing of the folder"
    changed = (file for file in files if not file.is_gone and md5_of(file.path) != file.current_md5)
    return next((file.relpath or "the file" for file in changed), "")


def compare_files(path: str, recorded: Files, new: Files) -> OutputResult:
    """Compares the files of an output: relative name → file, on each side."""
    same = {name for name in recorded.keys() & new.keys() if filecmp.cmp(recorded[name], new[name], shallow=False)}
    before = {name: file for name, file in recorded.items() if name not in same}
    after = {name: file for name, file in new.items() if name not in same}
    results: list[Difference] = []
    kinds = sorted({_kind(path, name) for name in {*before, *after}})
    for kind in kinds:
        of_kind = [{n: f for n, f in files.items() if _kind(path, n) == kind} for files in (before, after)]
        results.append(_compare_kind(path, kind, *of_kind))
    numbers = {kind or "files": facts for kind, (_, _, facts) in zip(kinds, results, strict=True)}
    different = [text for is_same, text, _ in results if not is_same]
    text = "; ".join(different or [text for _, text, _ in results])
    return OutputResult(path, "differs" if different else "equal", text, numbers)


def _kind(path: str, name: str) -> str:
    """The suffix of a file whose content can be compared; "" for the others."""
    suffix = Path(name or path).suffix
    return suffix if suffix in {*_BY_FILE, *_BY_SET} else ""


def _compare_kind(path: str, kind: str, before: Files, after: Files) -> Difference:
    try:
        if kind in _BY_SET:
            return _BY_SET[kind](before, after)
        if kind in _BY_FILE and before.keys() == after.keys():
            results = {name: _BY_FILE[kind](path, before[name], after[name]) for name in sorted(before)}
            return _joined(path, results)
    except Exception as error:  # noqa: BLE001  # pyarrow, safetensors, numpy and json each have exceptions of their own
        return False, f"its content cannot be compared ({type(error).__name__}: {one_line(error)})", {}
    return _changed_files(before, after)


def _joined(path: str, results: Mapping[str, Difference]) -> Difference:
    different = {name: result for name, result in results.items() if not result[0]}
    shown = list((different or results).items())[:3]
    text = "; ".join(f"{name}: {result[1]}" if name else result[1] for name, result in shown)
    if len(different) > 3:
        text += f"; {count_of(len(different) - 3, 'more file')}"
    return not different, text, {name or path: result[2] for name, result in results.items()}


def _changed_files(before: Files, after: Files) -> Difference:
    names = {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(before.keys() & after.keys()),
    }
    parts = []
    for kind, of_kind in names.items():
        shown = ", ".join(name for name in of_kind[:3] if name)
        if of_kind:
            more = ": " + shown + " …" * (len(of_kind) > 3) if shown else ""
            parts.append(f"{count_of(len(of_kind), 'file')} {kind}{more}")
    return False, "; ".join(parts), dict(names)


def _json(path: str, recorded: Path, new: Path) -> Difference:
    values = [json.loads(file.read_text(encoding="utf-8")) for file in (recorded, new)]
    return json_difference(values[0], values[1], OF_ONE_RUN.get(path))


def _lines(path: str, recorded: Path, new: Path) -> Difference:
    """JSON lines, as a list."""
    values = [[json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in (recorded, new)]
    return json_difference(values[0], values[1])


def _array(path: str, recorded: Path, new: Path) -> Difference:
    import numpy as np

    old, now = (np.load(file, mmap_mode="r") for file in (recorded, new))
    if old.shape != now.shape or old.dtype != now.dtype:
        text = f"shape {old.shape} → {now.shape}" if old.shape != now.shape else f"{old.dtype} → {now.dtype}"
        return False, text, {"recorded": list(old.shape), "new": list(now.shape)}
    differing = int(np.count_nonzero(old != now))
    return differing == 0, f"{differing:,} of {count_of(old.size, 'value')} differ", {"differing": differing}


_BY_SET: dict[str, Callable[[Files, Files], Difference]] = {
    ".parquet": table_difference,
    ".safetensors": tensor_difference,
}
_BY_FILE: dict[str, Callable[[str, Path, Path], Difference]] = {".json": _json, ".jsonl": _lines, ".npy": _array}
