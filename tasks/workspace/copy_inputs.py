"""Copies the inputs of a run into its folder, each as it was at one moment, and links to what is no input.

What was copied is noted in .strop/copies.json, by size, times and inode on both sides: only what changed is copied again, so that
DVC need not read the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.runtime.files import read_json, write_text
from tasks.runtime.linked_folder import copy_file, link_by_name, remove
from tasks.runtime.run_origin import MARK
from tasks.vcs import git
from tasks.workspace.inputs import LIVE, NEEDED, OURS, STATE, Inputs, dependencies_of, list_inputs

MOST_TRIES = 5
"""A file that changes all the time, such as a log in git, does not keep a run from beginning."""
LINKED_FROM_BYTES = 64 * 1024 * 1024
"""Larger inputs, such as a model in git, are hard links."""
NEVER_LINKED = ("__pycache__", str(paths.CACHE), ".dvc", ".git")
"""Names that a run has of its own."""


def copy_inputs(work: Path) -> tuple[Inputs, tuple[str, ...]]:
    """Copies what differs, until nothing was changed meanwhile; returns the inputs, and the names that the tree holds."""
    copied = _known()
    for _ in range(MOST_TRIES):
        inputs = list_inputs()
        before, copied = copied, {}
        in_tree: list[str] = []
        for name, is_in_tree in _files(inputs, work):
            try:
                copied[name] = [*_copied(name, work / name, before.get(name)), is_in_tree]
            except FileNotFoundError:  # deleted
                continue
            if is_in_tree:
                in_tree.append(name)
        if list_inputs() == inputs and all(_mark(name) == facts[0] for name, facts in copied.items()):
            break
    write_text(paths.COPIES, json.dumps(copied))  # ASCII: a name need not be UTF-8
    # what is in git and no longer on the disk is no input; only the tree's names say so
    return inputs, tuple(sorted({*in_tree, *(name for name in inputs.names if not os.path.lexists(name))}))


def copied_names(root: Path) -> list[str]:
    """The names in the tree of the snapshot that was taken last."""
    return [name for name, facts in read_json(root / paths.COPIES).items() if facts[2]]


def link_the_rest(work: Path, outputs: Collection[str]) -> list[str]:
    """Links to every file and folder that is neither input nor output; returns their names."""
    copied = _known()
    kept = {*copied, *outputs, *(str(path) for path in STATE)}
    above = {parent.as_posix() for name in kept for parent in Path(name).parents}
    found = [*LIVE, str(paths.CACHE), ".dvc/tmp", paths.DATA_DOCS.as_posix()]
    for name in found:
        Path(name).mkdir(parents=True, exist_ok=True)
    for entry in git.run("ls-files", "--others", "--directory", "-z").split("\0"):
        found += _to_link(entry.rstrip("/"), kept, above) if entry else ()
    tracked = git.run("ls-files", "-z").split("\0")
    found += [name for name in tracked if os.path.isdir(name) and name not in above | kept]  # links, submodules
    for name in found:
        link_by_name(Path(name), work / name)
    return found


def remove_others(work: Path, kept: Collection[str]) -> None:
    """Removes what earlier runs left in the folder: files that are no input any more."""
    expected = {*_known(), *kept, str(MARK), ".dvc", *(str(path) for path in STATE)}

    def visit(folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            name = path.relative_to(work).as_posix()
            if name in expected or name.endswith(".dvc") or path.name == "__pycache__":
                continue
            if path.is_dir() and not path.is_symlink():
                visit(path)
                if not any(path.iterdir()):
                    path.rmdir()
            else:
                remove(path)

    visit(work)


def _files(inputs: Inputs, work: Path) -> Iterator[tuple[str, bool]]:
    """(name, is it in the tree) of every file to copy; a link is what it leads to."""
    seen: set[str] = set()
    followed = (*(f"{folder}/" for folder in OURS), *(str(path) for path in NEEDED))
    for name in inputs.names:
        if name.startswith(tuple(f"{folder}/" for folder in LIVE)):
            continue
        if os.path.islink(name) and os.path.isdir(name):
            if f"{name}/".startswith(followed):
                yield from ((inner, True) for inner in _below(name, seen))
        elif name not in seen:
            seen.add(name)
            # a link elsewhere stays a link in git
            yield name, not os.path.islink(name) or name.startswith(followed)
    others = {paths.RAW.as_posix(), *(str(path) for path in STATE)}
    for name in dependencies_of(Path(paths.DVC_YAML)):
        if name not in others:
            yield from ((inner, False) for inner in _below(name, seen))


def _below(name: str, seen: set[str]) -> Iterator[str]:
    """The file, or every file below the folder, that was not seen yet."""
    if os.path.isfile(name):
        if name not in seen:
            seen.add(name)
            yield name
        return
    for folder, folders, files in os.walk(name, followlinks=True):
        folders[:] = [each for each in folders if each not in NEVER_LINKED]
        for file in files:
            inner = os.path.join(folder, file)
            if inner not in seen:
                seen.add(inner)
                yield inner


def _to_link(name: str, kept: Collection[str], above: Collection[str]) -> Iterator[str]:
    parts = Path(name).parts
    if name in kept or any(part in NEVER_LINKED for part in parts) or parts[0] in LIVE or name.endswith(".dvc"):
        return
    if any(parent.as_posix() in kept for parent in Path(name).parents):
        return
    if name not in above:
        yield name
    elif os.path.isdir(name):
        for entry in os.scandir(name):
            yield from _to_link(f"{name}/{entry.name}", kept, above)


def _copied(source: str, target: Path, known: Any) -> list[Any]:
    """Copies the file if it, or its copy, is not as it was; returns both as they are now."""
    now = _mark(source)
    if now is None:
        raise FileNotFoundError(source)
    if known is None or known[0] != now or known[1] != _mark(str(target), follow=False):
        if not target.is_file() or target.is_symlink():
            remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if now[0] >= LINKED_FROM_BYTES and _linked(source, target):
            now = _mark(source)  # a link more is another ctime
        else:
            copy_file(source, str(target))
    return [now, _mark(str(target), follow=False)]


def _linked(source: str, target: Path) -> bool:
    try:
        target.unlink(missing_ok=True)
        os.link(os.path.realpath(source), target)
    except OSError:
        return False
    return True


def _mark(path: str, follow: bool = True) -> list[int] | None:
    """What changes when somebody writes to a file, or puts another in its place; None where there is no file."""
    try:
        found = os.stat(path, follow_symlinks=follow)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _known() -> dict[str, Any]:
    try:
        return dict(read_json(paths.COPIES))
    except (FileNotFoundError, ValueError, TypeError):
        return {}
