"""Copies the inputs of a run into its folder, all at one moment, and links all other files.

The copies are recorded in .strop/copies.json with size, times and inode of both files: only changed files are copied again, so that
DVC need not hash the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.runtime.files import file_state, read_json, read_object, write_text
from tasks.runtime.linked_folder import copy_file, link_by_name, remove
from tasks.runtime.run_origin import MARK
from tasks.vcs import git
from tasks.workspace.inputs import LIVE, OUR_FOLDERS, REQUIRED, STATE, Inputs, dependencies_of, list_inputs

MAX_TRIES = 5
"""Then the run begins, even if a file changes all the time, such as a log in git."""
LINKED_FROM_BYTES = 64 * 1024 * 1024
"""Larger inputs, such as a model in git, are hard-linked."""
NEVER_LINKED = ("__pycache__", str(paths.CACHE), ".dvc", ".git")
"""The run's folder has its own."""


def copy_inputs(work: Path) -> tuple[Inputs, tuple[str, ...]]:
    """Copies changed files until none changes during the copy; returns the inputs, and the names in the tree."""
    copied = read_object(paths.COPIES)
    for _ in range(MAX_TRIES):
        inputs = list_inputs()
        before, copied = copied, {}
        in_tree: list[str] = []
        for name, is_in_tree in _input_files(inputs, work):
            try:
                copied[name] = [*_copy_if_changed(name, work / name, before.get(name)), is_in_tree]
            except FileNotFoundError:  # deleted
                continue
            if is_in_tree:
                in_tree.append(name)
        if list_inputs() == inputs and all(_file_state(name) == facts[0] for name, facts in copied.items()):
            break
    write_text(paths.COPIES, json.dumps(copied))  # ASCII: a name need not be UTF-8
    # a file that is in git but was deleted on disk is no input; it is recorded only in the names of the tree
    return inputs, tuple(sorted({*in_tree, *(name for name in inputs.names if not os.path.lexists(name))}))


def copied_names(root: Path) -> list[str]:
    """The names in the tree of the last snapshot."""
    return [name for name, facts in read_json(root / paths.COPIES).items() if facts[2]]


def link_the_rest(work: Path, outputs: Collection[str]) -> list[str]:
    """Links every file and folder that is neither input nor output; returns their names."""
    copied = read_object(paths.COPIES)
    kept = {*copied, *outputs, *(str(path) for path in STATE)}
    above = {parent.as_posix() for name in kept for parent in Path(name).parents}
    names = [*LIVE, str(paths.CACHE), ".dvc/tmp", paths.DATA_DOCS.as_posix()]
    for folder in names:
        Path(folder).mkdir(parents=True, exist_ok=True)
    for entry in git.run("ls-files", "--others", "--directory", "-z").split("\0"):
        names += _to_link(entry.rstrip("/"), kept, above) if entry else ()
    tracked = git.run("ls-files", "-z").split("\0")
    names += [name for name in tracked if os.path.isdir(name) and name not in above | kept]  # links, submodules
    for name in names:
        link_by_name(Path(name), work / name)
    return names


def remove_others(work: Path, kept: Collection[str]) -> None:
    """Removes files of earlier runs from the folder that are no longer inputs."""
    expected = {*read_object(paths.COPIES), *kept, str(MARK), ".dvc", *(str(path) for path in STATE)}

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


def _input_files(inputs: Inputs, work: Path) -> Iterator[tuple[str, bool]]:
    """(name, is it in the tree) of every file to copy; symbolic links are followed."""
    seen: set[str] = set()
    followed = (*(f"{folder}/" for folder in OUR_FOLDERS), *(str(path) for path in REQUIRED))
    for name in inputs.names:
        if name.startswith(tuple(f"{folder}/" for folder in LIVE)):
            continue
        if os.path.islink(name) and os.path.isdir(name):
            if f"{name}/".startswith(followed):
                yield from ((inner, True) for inner in _files_below(name, seen))
        elif name not in seen:
            seen.add(name)
            # outside these folders, a symbolic link stays a link in git
            yield name, not os.path.islink(name) or name.startswith(followed)
    others = {paths.RAW.as_posix(), *(str(path) for path in STATE)}
    for name in dependencies_of(Path(paths.DVC_YAML)):
        if name not in others:
            yield from ((inner, False) for inner in _files_below(name, seen))


def _files_below(name: str, seen: set[str]) -> Iterator[str]:
    """The file, or every file below the folder, without those in `seen`."""
    if os.path.isfile(name):
        if name not in seen:
            seen.add(name)
            yield name
        return
    for folder, folders, files in os.walk(name, followlinks=True):
        folders[:] = [inner for inner in folders if inner not in NEVER_LINKED]
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


def _copy_if_changed(source: str, target: Path, recorded: Any) -> list[Any]:
    """Copies the file if it or its copy has changed; returns the state of both."""
    state = _file_state(source)
    if state is None:
        raise FileNotFoundError(source)
    if recorded is None or recorded[0] != state or recorded[1] != _file_state(str(target), follow=False):
        if not target.is_file() or target.is_symlink():
            remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if state[0] >= LINKED_FROM_BYTES and _link(source, target):
            state = _file_state(source)  # a new hard link changes the ctime
        else:
            copy_file(source, str(target))
    return [state, _file_state(str(target), follow=False)]


def _link(source: str, target: Path) -> bool:
    try:
        target.unlink(missing_ok=True)
        os.link(os.path.realpath(source), target)
    except OSError:
        return False
    return True


def _file_state(path: str, follow: bool = True) -> list[int] | None:
    """As JSON keeps it."""
    state = file_state(path, follow)
    return None if state is None else list(state)
