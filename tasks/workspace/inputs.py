"""What a run takes as given: params.yaml, dvc.yaml, contract, templates, decisions, code, and whatever else git tracks; as a git
tree, whose id names it.

    names = list_inputs()
    tree = write_tree(names, Path.cwd())

What runs make is no part of it, even where git tracks it: outputs, dvc.lock, data/*.dvc, round, start and base. The tree is made
in a temporary index: the user's HEAD, index and files are never touched.
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
from tasks.runtime.run_origin import project
from tasks.vcs import git

OURS = ("flows", "tasks", str(paths.CONTRACT.parent), str(paths.TEMPLATES))
"""Folders whose untracked files are inputs too, unless git ignores them."""

NEEDED = (paths.DVC_YAML, paths.PARAMS, paths.CONSTRAINTS, paths.DECISIONS, paths.ERASURES,
          Path(".dvcignore"), Path(".dvc/config"), Path(".dvc/.gitignore"))  # fmt: skip
"""Inputs even where git ignores them."""

STATE = (paths.DVC_LOCK, paths.ROUND, paths.START, paths.BASE)
"""What a run goes on from and leaves behind; data/*.dvc belong to it too."""

LIVE = (str(paths.REGISTRY_FOLDER),)
"""Folders with tracked files that no run reads; they hold what is written meanwhile."""

GITLINK, SKIPPED = "160000", "S"


@dataclass(frozen=True)
class Inputs:
    names: tuple[str, ...]
    """Of the input files, relative to the project; some may have been deleted."""
    made: tuple[str, ...]
    """Files that git tracks, and that runs make."""
    left_out: tuple[str, ...]
    """Untracked files that are no inputs."""


def list_inputs() -> Inputs:
    """The inputs of the project in which the process works."""
    is_made = _made_by(paths.DVC_YAML)
    # a sparse checkout leaves files out; one that is there all the same is what a person works with
    tracked = [name for mode, tag, name in _entries() if mode != GITLINK and (tag != SKIPPED or os.path.lexists(name))]
    untracked = _untracked()
    ours = {name for name in untracked if _is_below(name, OURS) and not name.endswith("/")}
    needed = {str(path) for path in NEEDED if path.is_file()}
    names = {*tracked, *ours, *needed}
    state = {str(path) for path in state_files()}
    left_out = [_shown(name) for name in untracked if name not in {*ours, *needed, *state}]
    made = [name for name in tracked if is_made(name)]
    return Inputs(tuple(sorted(names - set(made) - state)), tuple(sorted(made)), tuple(left_out))


def state_files(folder: Path = Path()) -> list[Path]:
    """The files of STATE that are there, and data/*.dvc."""
    found = [path for path in STATE if (folder / path).is_file()]
    return [*found, *(path.relative_to(folder) for path in sorted((folder / paths.DATA).glob("*.dvc")))]


def write_tree(inputs: Inputs, folder: Path) -> str:
    """The git tree of the inputs, byte for byte as they are in `folder`; of those in LIVE as they are in the project."""
    live = [name for name in inputs.names if _is_below(name, LIVE)]
    copied = [name for name in inputs.names if not _is_below(name, LIVE)]
    is_made = _made_by(folder / paths.DVC_YAML)
    with _index_of_entries() as index:
        modes = {name: mode for mode, _, name in _entries(index)}
        _feed(index, [name for name in modes if is_made(name)], "--force-remove")
        for names, top in ((copied, folder), (live, project())):
            _put(index, names, top.absolute(), modes)
        return git.run("write-tree", environment=index).strip()


def tree_of_commit(commit: str) -> str:
    """The tree of the inputs in a version's commit: what `write_tree` gave when its run began."""
    content = git.read_at(commit, paths.DVC_YAML) or b""
    with tempfile.TemporaryDirectory(prefix="strop-index-") as folder:
        (Path(folder) / "dvc.yaml").write_bytes(content)
        is_made = _made_by(Path(folder) / "dvc.yaml")
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git.run("read-tree", commit, environment=index)
        _feed(index, [name for _, _, name in _entries(index) if is_made(name)], "--force-remove")
        return git.run("write-tree", environment=index).strip()


def tree_with(tree: str, files: Iterable[Path]) -> str:
    """The tree with these files, byte for byte as they are where the process works; those that are not there are left out."""
    there = [path for path in files if path.is_file()]
    blobs = _blobs([path.absolute() for path in there])
    lines = "".join(f"100644 {blob}\t{path.as_posix()}\0" for blob, path in zip(blobs, there, strict=True))
    with tempfile.TemporaryDirectory(prefix="strop-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git.run("read-tree", tree, environment=index)
        git.run("update-index", "-z", "--replace", "--index-info", stdin=lines, environment=index)
        return git.run("write-tree", environment=index).strip()


def outputs_of(dvc_yaml: Path, stage: str | None = None) -> list[str]:
    """The paths that the stages of a dvc.yaml make, or one of them."""
    return [name for one, kind, name in _named(dvc_yaml) if kind != "deps" and stage in (None, one)]


def dependencies_of(dvc_yaml: Path) -> list[str]:
    """The paths that stages depend on and that no stage makes."""
    made = set(outputs_of(dvc_yaml))
    return sorted({name for _, kind, name in _named(dvc_yaml) if kind == "deps" and name not in made})


@contextmanager
def _index_of_entries() -> Iterator[dict[str, str]]:
    """The environment of git commands that work on an index with the entries of the user's, and none of its flags: git does
    not look at a file that is `assumed unchanged`, skipped, or vouched for by a monitor."""
    entries = git.run("ls-files", "--stage", "-z") or git.run("ls-tree", "-r", "-z", "--full-tree", git.head_commit())
    with tempfile.TemporaryDirectory(prefix="strop-index-") as folder:
        environment = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git.run("update-index", "-z", "--index-info", stdin=entries, environment=environment)
        yield environment


def _put(index: dict[str, str], names: list[str], top: Path, modes: dict[str, str]) -> None:
    """Puts files into an index as they are below `top`; what is not there goes out of it.

    No filter changes a byte (line endings, `$Id$`): stages read the bytes of the disk, and dvc.lock has their digests. Only of
    what Git LFS keeps, git holds the digest.
    """
    files: list[str] = []
    by_git: list[str] = []
    gone: list[str] = []
    for name, is_lfs in _with_lfs(names, top):
        path = top / name
        if path.is_symlink() or (is_lfs and path.is_file()):
            by_git.append(name)
        else:
            (files if path.is_file() else gone).append(name)
    _feed(index, gone, "--force-remove")
    trusts_modes = (git.run("config", "--default", "true", "--type=bool", "core.fileMode")).strip() == "true"
    lines = []
    for name, blob in zip(files, _blobs([top / name for name in files]), strict=True):
        mode = "100755" if os.stat(top / name).st_mode & 0o100 else "100644"
        if not trusts_modes:
            mode = modes[name] if modes.get(name) in ("100644", "100755") else "100644"
        lines.append(f"{mode} {blob}\t{name}\0")
    git.run("update-index", "-z", "--replace", "--index-info", stdin="".join(lines), environment=index)
    if by_git:
        root = git.run("rev-parse", "--absolute-git-dir").strip()
        environment = index | {"GIT_DIR": root, "GIT_WORK_TREE": str(top)}
        _feed(environment, by_git, "--add", "--remove", "--replace", folder=top)


def _with_lfs(names: list[str], top: Path) -> Iterator[tuple[str, bool]]:
    """Each name, and whether Git LFS keeps the file."""
    root = git.run("rev-parse", "--absolute-git-dir").strip()
    environment = {"GIT_DIR": root, "GIT_WORK_TREE": str(top)}
    listed = "".join(f"{name}\0" for name in names)
    attributes = git.run("check-attr", "-z", "--stdin", "filter", stdin=listed, environment=environment, folder=top)
    values = attributes.split("\0")[2::3]
    return ((name, value == "lfs") for name, value in zip(names, values, strict=True))


def _blobs(files: list[Path]) -> list[str]:
    """The ids of the files' bytes, which git then holds."""
    if not files:
        return []
    listed = "".join(f"{_quoted(str(file))}\n" for file in files)
    return git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed).split()


def _quoted(path: str) -> str:
    """A path as git reads it from a line."""
    if "\n" not in path and not path.startswith('"'):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _made_by(dvc_yaml: Path) -> Any:
    """Whether a name is of a file that runs make."""
    outputs = (*outputs_of(dvc_yaml), str(paths.REPORTS))
    state = {path.as_posix() for path in STATE}

    def is_made(name: str) -> bool:
        is_dvc_file = name.endswith(".dvc") and Path(name).parent == paths.DATA
        return name in state or is_dvc_file or name in outputs or _is_below(name, outputs)

    return is_made


def _named(dvc_yaml: Path) -> Iterator[tuple[str, str, str]]:
    """(stage, kind, path) of every dependency and output; of stages that dvc.yaml makes by a pattern, as dvc.lock has them."""
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
    """The text of a dvc.yaml or dvc.lock, and its stages; none where it is damaged: DVC tells of it, in one line."""
    try:
        text = path.read_text(encoding="utf-8")
        document = load_yaml(text)
    except (FileNotFoundError, ValueError):
        return "", {}
    stages = document.get("stages") if isinstance(document, dict) else None
    found = stages.items() if isinstance(stages, dict) else ()
    return text, {str(name): stage for name, stage in found if isinstance(stage, dict)}


def _entries(index: dict[str, str] | None = None) -> Iterator[tuple[str, str, str]]:
    """(mode, tag, name) of every file in an index; the user's by default."""
    for line in git.run("ls-files", "-t", "--stage", "-z", environment=index).split("\0"):
        if line:
            facts, name = line.split("\t", 1)
            tag, mode = facts.split()[:2]
            yield mode, tag, name


def _untracked() -> list[str]:
    return [name for name in git.run("ls-files", "--others", "--exclude-standard", "-z").split("\0") if name]


def _shown(name: str) -> str:
    """A file's name as any receipt can hold it: it need not be UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_below(name: str, folders: Iterable[str]) -> bool:
    return any(name.startswith(f"{folder}/") for folder in folders)


def _feed(index: dict[str, str], names: list[str], *flags: str, folder: Path | None = None) -> None:
    if names:
        listed = "\0".join(names) + "\0"
        git.run("update-index", *flags, "-z", "--stdin", stdin=listed, environment=index, folder=folder)
