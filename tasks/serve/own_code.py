"""The command and the environment of a process that runs this code, also in a project with another copy of it."""

from __future__ import annotations

import os
import sys

from tasks.runtime.import_closure import ROOT


def own_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Runs a module. `-P`: without the working directory first in the path, where a project may have its own `tasks`."""
    return (sys.executable, "-P", "-m", module, *arguments)


def own_environment() -> dict[str, str]:
    """That of this process, with its own code first in the path, and the working directory last: it may have plugins."""
    folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), os.getcwd()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
