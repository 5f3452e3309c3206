"""The environment of a process that runs this code."""

from __future__ import annotations

import os

from tasks.runtime.import_closure import ROOT


def own_environment() -> dict[str, str]:
    """That of this process, with its own code first: it may have been started in any folder."""
    folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
