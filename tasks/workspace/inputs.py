"""The inputs of a run: params.yaml, dvc.yaml, contract, templates, rubrics, decisions, code, and all other files in git; as a git
tree with an id.

    names = list_inputs()
    tree = write_tree(names, Path.cwd())

Files that runs write are no inputs, even if git tracks them: outputs, dvc.lock, data/*.dvc, round, start and base. The tree is
written with a temporary index: the user's HEAD, index and files are never changed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.plugin_table import STAGES
from tasks.runtime.plugins import loaded_plugins
from tasks.runtime.run_origin import project
from tasks.vcs import git

OUR_FOLDERS = ("flows", "tasks", str(paths.CONTRACT.parent), str(paths.TEMPLATES),
               str(paths.JUDGES), str(paths.FORGETTING))  # fmt: skip
"""Folders whose untracked files are inputs too, unless git ignores them."""

REQUIRED = (paths.DVC_YAML, paths.PARAMS, paths.CONSTRAINTS, paths.DECISIONS, paths.ERASURES,
          Path(".dvcignore"), Path(".dvc/config"), Path(".dvc/.gitignore"))  # fmt: skip
"""Inputs even where git ignores them."""

STATE = (paths.DVC_LOCK, paths.ROUND, paths.START, paths.BASE, *(paths.PLUGINS / f"{stage}.json" for stage in STAGES))
"""Files that a run reads and updates; data/*.dvc too."""

LIVE = (str(paths.REGISTRY_FOLDER),)
"""Folders with tracked files that may change during a run, and that no run reads."""

GITLINK, SKIPPED = "160000", "S"


@dataclass(frozen=True)
class Inputs:
    names: tuple[str, ...]
    """Names of the input files, relative to the project; some may be deleted on disk."""
    made: tuple[str, ...]
    """Files that git tracks and runs write."""
    left_out: tuple[str, ...]
    """Untracked files that are not inputs."""


def list_inputs() -> Inputs:
    """The inputs of the project in the working directory."""
    is_written = _is_written_by(paths.DVC_YAML)
    # a sparse checkout skips files; a skipped file that exists was created by the user
    tracked = [name for mode, tag, name in _entries() if mode != GITLINK and (tag != SKIPPED or os.path.lexists(name))]
    untracked = [name for name in git.run("ls-files", "--others", "--exclude-standard", "-z").split("\0") if name]
    ours = {name for name in untracked if _is_below(name, OUR_FOLDERS) and not name.endswith("/")}
    needed = {str(path) for path in REQUIRED if path.is_file()} | _plugin_files()
    names = {*tracked, *ours, *needed}
    state = {str(path) for path in state_files()}
    others = [name.encode("utf-8", "surrogateescape") for name in untracked if name not in {*ours, *needed, *state}]
    left_out = tuple(name.decode("utf-8", "backslashreplace") for name in others)  # valid UTF-8 for the receipt
    made = [name for name in tracked if is_written(name)]
    return Inputs(tuple(sorted(names - set(made) - state)), tuple(sorted(made)), left_out)


def _plugin_files() -> set[str]:
    """The files of local plugins, inputs even where git ignores them."""
    plugins = [plugin for plugin in loaded_plugins() if plugin.is_local]
    return {(plugin.folder / file).relative_to(plugin.root).as_posix() for plugin in plugins for file in plugin.files}


def state_files(folder: Path = Path()) -> list[Path]:
    """The existing files of STATE, and data/*.dvc."""
    existing = [path for path in STATE if (folder / path).is_file()]
    return [*existing, *(path.relative_to(folder) for path in sorted((folder / paths.DATA).glob("*.dvc")))]


def write_tree(inputs: Inputs, folder: Path) -> str:
    """Writes the git tree of the inputs, byte for byte from `folder`; files below LIVE from the project."""
    is_written = _is_written_by(folder / paths.DVC_YAML)
    with _index_copy() as index:
        modes = {name: mode for mode, _, name in _entries(index)}
        _update_index(index, [name for name in modes if is_written(name)], "--force-remove")
        for is_live, top in ((False, folder), (True, project())):
            names = [name for name in inputs.names if _is_below(name, LIVE) == is_live]
            _add_files(index, names, top.absolute(), modes)
        return git.run("write-tree", environment=index).strip()


def tree_with(tree: str, files: Iterable[Path]) -> str:
    """The tree with these files added, byte for byte from the working directory; missing files are skipped."""
    existing = [path for path in files if path.is_file()]
    blobs = _blobs([path.absolute() for path in existing])
    lines = "".join(f"100644 {blob}\t{path.as_posix()}\0" for blob, path in zip(blobs, existing, strict=True))
    with _new_index() as index:
        git.run("read-tree", tree, environment=index)
        git.run("update-index", "-z", "--replace", "--index-info", stdin=lines, environment=index)
        return git.run("write-tree", environment=index).strip()


def outputs_of(dvc_yaml: Path, stage: str | None = None) -> list[str]:
    """The outputs of all stages of a dvc.yaml, or of one."""
    entries = _dependencies_and_outputs(dvc_yaml)
    return [path for name, kind, path in entries if kind != "deps" and stage in (None, name)]


def dependencies_of(dvc_yaml: Path) -> list[str]:
    """The dependencies of stages that are no stage's output."""
    outputs = set(outputs_of(dvc_yaml))
    entries = _dependencies_and_outputs(dvc_yaml)
    return sorted({path for _, kind, path in entries if kind == "deps" and path not in outputs})


@contextmanager
def _new_index() -> Iterator[dict[str, str]]:
    """The environment for git commands on a temporary index."""
    with tempfile.TemporaryDirectory(prefix="strop-index-") as folder:
        yield {"GIT_INDEX_FILE": str(Path(folder) / "index")}


@contextmanager
def _index_copy() -> Iterator[dict[str, str]]:
    """The environment for git commands on a copy of the user's index without its flags: git does not check files that are
    `assume-unchanged`, skip-worktree, or watched by an fsmonitor."""
    entries = git.run("ls-files", "--stage", "-z") or git.run("ls-tree", "-r", "-z", "--full-tree", git.head_commit())
    with _new_index() as environment:
        git.run("update-index", "-z", "--index-info", stdin=entries, environment=environment)
        yield environment


def _add_files(index: dict[str, str], names: list[str], top: Path, modes: dict[str, str]) -> None:
    """Adds the files below `top` to an index; missing files are removed from it.

    No filter (line endings, `$Id$`) is applied: stages read the bytes on disk, and dvc.lock has their digests. The exception is Git
    LFS, whose pointer files have the digest.
    """
    files: list[str] = []
    with_filters: list[str] = []
    missing: list[str] = []
    for name, is_lfs in _with_lfs(names, top):
        path = top / name
        if path.is_symlink() or (is_lfs and path.is_file()):
            with_filters.append(name)
        else:
            (files if path.is_file() else missing).append(name)
    _update_index(index, missing, "--force-remove")
    trusts_modes = (git.run("config", "--default", "true", "--type=bool", "core.fileMode")).strip() == "true"
    lines = []
    for name, blob in zip(files, _blobs([top / name for name in files]), strict=True):
        mode = "100755" if os.stat(top / name).st_mode & 0o100 else "100644"
        if not trusts_modes:
            mode = modes[name] if modes.get(name) in ("100644", "100755") else "100644"
        lines.append(f"{mode} {blob}\t{name}\0")
    git.run("update-index", "-z", "--replace", "--index-info", stdin="".join(lines), environment=index)
    if with_filters:
        root = git.run("rev-parse", "--absolute-git-dir").strip()
        environment = index | {"GIT_DIR": root, "GIT_WORK_TREE": str(top)}
        _update_index(environment, with_filters, "--add", "--remove", "--replace", folder=top)


def _with_lfs(names: list[str], top: Path) -> Iterator[tuple[str, bool]]:
    """(name, whether Git LFS stores the file) of each name."""
    root = git.run("rev-parse", "--absolute-git-dir").strip()
    environment = {"GIT_DIR": root, "GIT_WORK_TREE": str(top)}
    lines = "".join(f"{name}\0" for name in names)
    attributes = git.run("check-attr", "-z", "--stdin", "filter", stdin=lines, environment=environment, folder=top)
    values = attributes.split("\0")[2::3]
    return ((name, value == "lfs") for name, value in zip(names, values, strict=True))


def _blobs(files: list[Path]) -> list[str]:
    """Writes the files to git as blobs, and returns the blobs' ids."""
    if not files:
        return []
    lines = "".join(f"{_quoted(str(file))}\n" for file in files)
    return git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=lines).split()


def _quoted(path: str) -> str:
    """A path, quoted for git's line-based input."""
    if "\n" not in path and not path.startswith('"'):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _is_written_by(dvc_yaml: Path) -> Any:
    """A function: does a run write the file of this name?"""
    outputs = (*outputs_of(dvc_yaml), str(paths.REPORTS))
    state = {path.as_posix() for path in STATE}

    def is_written(name: str) -> bool:
        is_dvc_file = name.endswith(".dvc") and Path(name).parent == paths.DATA
        return name in state or is_dvc_file or name in outputs or _is_below(name, outputs)

    return is_written


def _dependencies_and_outputs(dvc_yaml: Path) -> Iterator[tuple[str, str, str]]:
    """(stage, kind, path) of every dependency and output; for templated stages of dvc.yaml, from dvc.lock."""
    text, stages = _stages(dvc_yaml)
    for name, stage in stages.items():
        folder = Path(str(stage.get("wdir") or ""))
        for kind in ("deps", "outs", "metrics", "plots"):
            for entry in stage.get(kind) or ():
                path = str(entry if isinstance(entry, str) else next(iter(entry)))
                if "${" not in path:
                    yield name, kind, os.path.normpath(folder / path)
    if "${" in text:
        for name, stage in _stages(dvc_yaml.with_name(paths.DVC_LOCK.name))[1].items():
            for kind in ("deps", "outs"):
                for entry in stage.get(kind) or ():
                    yield name.split("@")[0], kind, str(entry["path"])


def _stages(path: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """The text of a dvc.yaml or dvc.lock, and its stages; empty if it is damaged: DVC reports it in one line."""
    try:
        text = path.read_text(encoding="utf-8")
        document = load_yaml(text)
    except (FileNotFoundError, ValueError):
        return "", {}
    stages = document.get("stages") if isinstance(document, dict) else None
    entries = stages.items() if isinstance(stages, dict) else ()
    return text, {str(name): stage for name, stage in entries if isinstance(stage, dict)}


def _entries(index: dict[str, str] | None = None) -> Iterator[tuple[str, str, str]]:
    """(mode, tag, name) of every file in an index; the user's by default."""
    for line in git.run("ls-files", "-t", "--stage", "-z", environment=index).split("\0"):
        if line:
            facts, name = line.split("\t", 1)
            tag, mode = facts.split()[:2]
            yield mode, tag, name


def _is_below(name: str, folders: Iterable[str]) -> bool:
    return any(name.startswith(f"{folder}/") for folder in folders)


def _update_index(index: dict[str, str], names: list[str], *flags: str, folder: Path | None = None) -> None:
    if names:
        lines = "\0".join(names) + "\0"
        git.run("update-index", *flags, "-z", "--stdin", stdin=lines, environment=index, folder=folder)
