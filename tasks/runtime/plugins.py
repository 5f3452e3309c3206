"""Loads the plugins of a project: modules of the user, named under `plugins:` in params.yaml, that add entries to a PluginTable.

    load_plugins(["my_package.strop"], Path.cwd())
    loaded_plugins()                            # names, files and digests

One project at a time is loaded: another one, or a changed file, unloads the plugins and imports them again.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.errors import StropError, one_line
from tasks.runtime.plugin_files import PRODUCT, Plugin, PluginError, find_plugin
from tasks.runtime.plugin_table import ADDITIONS, STAGES


@dataclass
class _Loaded:
    root: Path | None = None
    plugins: tuple[Plugin, ...] = ()
    entries: tuple[str, ...] = ()
    """Entries of sys.path that were added for them."""


_loaded = _Loaded()


def load_plugins(names: Sequence[str], root: Path) -> None:
    """Imports the plugins of a project, and unloads those of another.

    Args:
        names: dotted names of modules, importable from `root` or the environment.
        root: the project's folder, or the folder of its run.

    Raises:
        PluginError: the first that is missing or cannot be imported. None is loaded then.
    """
    root = root.absolute()
    try:
        plugins = [find_plugin(name, root) for name in dict.fromkeys(names)]
        if _loaded.root == root and plugins == [replace(plugin, stages=STAGES) for plugin in _loaded.plugins]:
            return
        unload_plugins()
        _loaded.root = root
        _loaded.entries = tuple(dict.fromkeys(str(plugin.folder) for plugin in plugins if plugin.is_local))
        sys.path[:0] = _loaded.entries
        importlib.invalidate_caches()
        for plugin in plugins:
            # first, so that a plugin whose import fails is unloaded too
            _loaded.plugins += (plugin,)
            _loaded.plugins = (*_loaded.plugins[:-1], _import(plugin))
    except PluginError:
        unload_plugins()
        raise


def unload_plugins() -> None:
    """Removes the plugins' entries from the tables, and their modules from this process."""
    while ADDITIONS:
        table, name = ADDITIONS.pop()
        table.remove(name)
    if _loaded.plugins:
        _remove_modules()
    for entry in _loaded.entries:
        if entry in sys.path:
            sys.path.remove(entry)
    _loaded.root, _loaded.plugins, _loaded.entries = None, (), ()


def _remove_modules() -> None:
    files = {str(plugin.folder / file) for plugin in _loaded.plugins for file in plugin.files}
    packages = {plugin.name.partition(".")[0] for plugin in _loaded.plugins if plugin.is_local} - {*PRODUCT}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages or getattr(module, "__file__", None) in files:
            del sys.modules[name]


def loaded_plugins(stage: str | None = None) -> tuple[Plugin, ...]:
    """The loaded plugins; with a stage, those that can change its result."""
    return tuple(plugin for plugin in _loaded.plugins if stage is None or stage in plugin.stages)


def plugin_names() -> tuple[str, ...]:
    """For a child process that does not read params.yaml: `load_plugins(names, Path.cwd())`."""
    return tuple(plugin.name for plugin in _loaded.plugins)


@contextmanager
def keeping_plugins() -> Iterator[None]:
    """Loads the present plugins again at the end of a block that may load those of another folder."""
    root, names = _loaded.root, plugin_names()
    try:
        yield
    finally:
        if root is None:
            unload_plugins()
        else:
            load_plugins(names, root)


def _import(plugin: Plugin) -> Plugin:
    """Imports a plugin, and returns it with the stages that it can change."""
    before = len(ADDITIONS)
    try:
        importlib.import_module(plugin.name)
    except (Exception, SystemExit) as error:
        raise PluginError(plugin.name, f"cannot be imported: {_cause(error, plugin)}") from error
    tables = [table for table, _ in ADDITIONS[before:]]
    stages = {stage for table in tables for stage in table.stages}
    return replace(plugin, stages=tuple(stage for stage in STAGES if stage in stages) if tables else STAGES)


def _cause(error: BaseException, plugin: Plugin) -> str:
    """The error in one line, with file and line of the plugin."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename, plugin)} line {error.lineno}: {type(error).__name__}: {error.msg}"
    files = {str(plugin.folder / file) for file in plugin.files}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    message = str(error).rstrip(".") if isinstance(error, StropError) else f"{type(error).__name__}: {one_line(error)}"
    return f"{_shown(frames[-1].filename, plugin)} line {frames[-1].lineno}: {message}" if frames else message


def _shown(file: str, plugin: Plugin) -> str:
    return file.removeprefix(f"{plugin.folder}/") if plugin.is_local else file
