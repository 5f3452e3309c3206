"""Whether this machine can isolate programs, apart from what the sandbox does with it."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys

import pytest

from tasks.sandbox.bubblewrap import find_bubblewrap
from tasks.sandbox.system_calls import MACHINES


@functools.cache
def _obstacle() -> str:
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return f"the sandbox does not support {sys.platform} on {platform.machine()}"
    binary = find_bubblewrap()
    assert binary is not None, "the development packages have bubblewrap: make setup"
    command = [str(binary), "--unshare-all", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"the kernel gives no namespaces: {done.stderr.strip()}" if done.returncode else ""


def require_isolation() -> None:
    """Skips a test where the machine gives no namespaces. Where it does, a sandbox that does not start is a failure."""
    if obstacle := _obstacle():
        pytest.skip(obstacle)
