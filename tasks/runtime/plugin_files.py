"""Finds a plugin: the file of its module, the files that it imports, and the digest of all of them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from tasks.errors import ConfigError
from tasks.runtime.files import content_digest, file_digest
from tasks.runtime.plugin_table import STAGES
from tasks.runtime.run_origin import current_snapshot

PRODUCT = ("tasks", "flows")
INSTALLED = ("site-packages", "dist-packages")
FIX = "Fix the module, or remove it from `plugins`"
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")


class PluginError(ConfigError):
    """A plugin cannot be loaded; `name` is its module."""

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        super().__init__(f"{name} {what}", where="params.yaml, plugins", fix=FIX)


@dataclass(frozen=True)
class Plugin:
    name: str
    """The module, such as `my_package.strop`."""
    root: Path
    """The folder of the project, or of its run; absolute."""
    folder: Path
    """The folder on the import path that has its top-level package; absolute."""
    is_local: bool
    """Whether it is a file of the project, and not of an installed package."""
    package: Path | None
    """Its folder, if the named module is a package; relative to `folder`."""
    files: tuple[Path, ...]
    """Its module, the modules of the same package (of a local one: of the project) that it imports, and all files of `package`;
    sorted, relative to `folder`."""
    uses: tuple[str, ...]
    """Dotted names of Strop that these modules import."""
    digest: str
    """Of the files."""
    stages: tuple[str, ...] = STAGES
    """The stages of dvc.yaml whose result it can change: those of the tables to which it adds; all if it adds to none."""

    def paths(self) -> list[Path]:
        """The files, with `package` for the files below it; absolute."""
        package = [self.package] if self.package else []
        others = [file for file in self.files if self.package is None or self.package not in file.parents]
        return [self.folder / path for path in sorted([*package, *others])]


def find_plugin(name: str, root: Path) -> Plugin:
    for folder in _folders(name, root):
        if (file := _module_file(folder, name)) is not None:
            break
    else:
        path = name.replace(".", "/")
        what = f"is not found: there is no {path}.py in the project, and no such module in the environment"
        raise PluginError(name, what)
    is_local = _is_local(folder, root)
    package = file.parent if file.name == "__init__.py" else None
    starts = [path.relative_to(folder) for path in sorted((folder / package).rglob("*.py"))] if package else [file]
    files, uses = _closure(starts, folder, None if is_local else name.partition(".")[0])
    if package:
        below = (path for path in (folder / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        files |= {path.relative_to(folder) for path in below}
    ordered = sorted(files)
    digest = content_digest([[path.as_posix(), file_digest(folder / path)] for path in ordered])
    return Plugin(name, root, folder, is_local, package, tuple(ordered), tuple(sorted(uses)), digest)


def _folders(name: str, root: Path) -> Iterator[Path]:
    """The folders in which a module is looked for, in order. In the folder of a run: the project's own are those of the run."""
    snapshot = current_snapshot(root)
    project = Path(snapshot.project) if snapshot else root
    yield root
    for entry in sys.path:
        yield _in_run(Path(entry).absolute(), project, root)
    top = name.partition(".")[0]
    # editable installations have a finder of their own, and no entry in sys.path
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(top, None) if find is not None and finder is not PathFinder else None
        for location in (spec and spec.submodule_search_locations) or ():
            yield _in_run(Path(location).parent, project, root)


def _in_run(folder: Path, project: Path, root: Path) -> Path:
    if not _is_local(folder, project):
        return folder
    return root / folder.relative_to(project)


def _is_local(folder: Path, root: Path) -> bool:
    return folder.is_relative_to(root) and not set(INSTALLED) & set(folder.relative_to(root).parts)


def _module_file(folder: Path, name: str) -> Path | None:
    """The file of a dotted name below a folder, relative to it."""
    path = Path(*name.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if (folder / file).is_file()), None)


def _closure(starts: Iterable[Path], folder: Path, only: str | None) -> tuple[set[Path], set[str]]:
    """(files, names of Strop) that are imported when the modules `starts` are; with `only`, files of that top-level package."""
    waiting, files, uses = list(starts), set[Path](), set[str]()
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.add(file)
        packages = (parent / "__init__.py" for parent in file.parents[:-1])
        waiting += [package for package in packages if (folder / package).is_file()]
        for name in _imports(folder / file, file):
            if name.partition(".")[0] in PRODUCT:
                uses.add(name)
            elif only in (None, name.partition(".")[0]) and (imported := _module_file(folder, name)):
                waiting.append(imported)
    return files, uses


def _imports(path: Path, module: Path) -> set[str]:
    """Dotted names that a module imports or has as a text; of `from a import b`, `a` and `a.b`. Empty if it cannot be parsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()  # its import reports it
    names: set[str] = set()
    package = module.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
            names.add(node.value)  # the module of an objective, imported when it is needed
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return {name for name in names if name}
