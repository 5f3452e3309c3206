"""The modules of Strop that run when some modules run, and the digest of their code: it is part of cache keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tasks.runtime.files import content_digest, file_digest
from tasks.runtime.plugins import loaded_plugins

ROOT = Path(__file__).parents[2]
PACKAGES = ("tasks", "flows")
LOGS = Path("tasks/runtime/logs")
SHOWS_ONLY = frozenset(
    {
        *(Path(f"tasks/runtime/{name}.py") for name in ("console", "terminal_text")),
        *(LOGS / f"{name}.py" for name in ("__init__", "formats", "handlers", "libraries", "setup")),
    }
)
"""Formats messages and changes no result of a stage: a change to it must not start a training."""
CHANGES_NO_RESULT = SHOWS_ONLY | {
    *(Path(f"tasks/{name}.py") for name in ("errors", "paths")),
    *(
        Path(f"tasks/runtime/{name}.py")
        for name in ("cores", "fast_imports", "free_memory", "parent_watchdog", "progress")
    ),
}
"""Messages, progress and speed: caches stay valid when one of these changes."""

_IMPORT = re.compile(
    r"""^[ \t]*(?: from[ \t]+ ((?:tasks|flows)[\w.]*) [ \t]+import[ \t]+ (\([^)]*\)|[^#\n]*)
                | import[ \t]+ ((?:tasks|flows)[\w.]*) )""",
    re.MULTILINE | re.VERBOSE,
)
_FOR_TYPE_CHECKERS = re.compile(r"^([ \t]*)if TYPE_CHECKING:[^\n]*\n(?:\1[ \t]+[^\n]*\n|[ \t]*\n)*", re.MULTILINE)


@cache
def imports_of(module: Path) -> frozenset[str]:
    """Dotted names of Strop that a module imports at run time, in functions too, without imports for type checkers only.

    Uses a regular expression, ten times as fast as a parser; a test compares the two.

    Args:
        module: relative to ROOT.
    """
    text = (ROOT / module).read_text(encoding="utf-8")
    if "TYPE_CHECKING" in text:
        text = _FOR_TYPE_CHECKERS.sub("", text)
    names = set()
    for package, attributes, plain in _IMPORT.findall(text):
        names.update([plain] if plain else [])
        names.update(f"{package}.{name.split()[0]}" for name in attributes.strip("() \n").split(",") if name.strip())
    return frozenset(names)


def module_of(name: str) -> Path | None:
    """The file of a dotted name (`tasks.config.load_config` → tasks/config.py); None for a library."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return None
    for length in range(len(parts), 0, -1):
        path = Path(*parts[:length])
        for module in (path.with_suffix(".py"), path / "__init__.py"):
            if (ROOT / module).is_file():
                return module
    return None


def import_closure(starts: Iterable[str | Path], without: frozenset[Path] = SHOWS_ONLY) -> list[Path]:
    """All modules of Strop, sorted, that may run when one of `starts` runs.

    Args:
        starts: modules, and folders with all modules below them, relative to ROOT.
        without: modules to exclude, with the modules that only they import.
    """
    waiting = [module for start in starts for module in _modules_in(Path(start))]
    closure: set[Path] = set()
    while waiting:
        module = waiting.pop()
        if module in closure or module in without:
            continue
        closure.add(module)
        waiting += [imported for name in imports_of(module) if (imported := module_of(name))]
    return sorted(closure)


def code_digest(*starts: str) -> str:
    """As `closure_digest`, with the loaded plugins that can change the result of the stage to which the first start belongs."""
    plugins = loaded_plugins(stage=Path(starts[0]).parts[1])
    used = [str(module) for plugin in plugins for name in plugin.uses if (module := module_of(name))]
    code = closure_digest(*starts, *used)
    return content_digest([code, *([plugin.name, plugin.digest] for plugin in plugins)]) if plugins else code


@cache
def closure_digest(*starts: str, without: frozenset[Path] = frozenset()) -> str:
    """Digest of the modules of Strop that run when `starts` run, without those that change no result (see `import_closure`).

    Args:
        without: further modules to exclude, with the modules that only they import.
    """
    closure = import_closure(starts, CHANGES_NO_RESULT | without)
    return content_digest([[path.as_posix(), file_digest(ROOT / path)] for path in closure])


def _modules_in(start: Path) -> list[Path]:
    if (ROOT / start).is_dir():
        return sorted(path.relative_to(ROOT) for path in (ROOT / start).rglob("*.py"))
    return [start]
