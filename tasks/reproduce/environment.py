"""The environment in which the stages run again: built by uv from the version's lock, or that of this process.

    environment = build_environment(requirements, "3.11.7", fresh=False)

It is built once per machine, in `~/.cache/strop/environments` (or below `$STROP_CACHE`), and may be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.base.convert import bases_folders
from tasks.errors import AuditError, one_line
from tasks.reproduce.requirements import Requirements
from tasks.runtime.files import write_json
from tasks.runtime.machine import installed_packages

logger = logging.getLogger(__name__)

READY = "strop-ready.json"
"""Written last, with the packages: a folder without it was not finished."""
CURRENT = "--environment current"
FIX = f"Run again with {CURRENT}, or name a folder with the wheels: export UV_FIND_LINKS=FOLDER"


@dataclass(frozen=True)
class Environment:
    python: Path
    version: str
    """Of Python."""
    packages: dict[str, str]
    is_cached: bool = False
    seconds: float = 0.0


def current_environment() -> Environment:
    """That of this process."""
    return Environment(Path(sys.executable), platform.python_version(), installed_packages())


def build_environment(requirements: Requirements, python: str, *, fresh: bool = False) -> Environment:
    """An environment with exactly these packages.

    Args:
        python: the version of Python in the receipt; "" if it records none.
        fresh: build it again, even if it exists.

    Raises:
        AuditError: uv, that Python or a package cannot be obtained.
    """
    from filelock import FileLock

    start, uv = time.monotonic(), find_uv()
    interpreter, version = find_python(uv, python)
    folder = environments_folder() / requirements.digest(version, sysconfig.get_platform())
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if fresh or (packages := _packages_of(folder)) is None:
            shutil.rmtree(folder, ignore_errors=True)
            logger.info(f"reproduce: environment of {len(requirements.lines)} packages, Python {version}")
            try:
                packages = _install(uv, interpreter, requirements, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            write_json(folder / READY, packages)
            return Environment(_python_in(folder), version, packages, False, time.monotonic() - start)
    return Environment(_python_in(folder), version, packages, True, time.monotonic() - start)


def _packages_of(folder: Path) -> dict[str, str] | None:
    """The packages of an environment that was built here; None if it was not finished, or its Python was removed since."""
    try:
        packages: dict[str, str] = json.loads((folder / READY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return packages if packages and _python_in(folder).exists() else None


def environments_folder() -> Path:
    return (bases_folders()[0].parent / "environments").absolute()


def find_uv() -> str:
    """uv of this process's environment, or on the PATH.

    Raises:
        AuditError: it is not installed.
    """
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if (uv := shutil.which("uv", path=search_path)) is None:
        what = "uv, which builds the environment of the version's lock, is not installed"
        raise AuditError(what, fix=f"Install it: pip install uv; or run again with {CURRENT}")
    return uv


def find_python(uv: str, version: str) -> tuple[str, str]:
    """(path, version) of the Python of the receipt; else of one with the same minor version. Nothing is downloaded."""
    if version in ("", platform.python_version()):
        return sys.executable, platform.python_version()
    for request in (version, ".".join(version.split(".")[:2])):
        command = [uv, "python", "find", "--system", "--no-project", "--no-python-downloads", request]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=_uv_environment())
        if result.returncode == 0 and (path := result.stdout.strip()):
            reported = subprocess.run(
                [path, "-c", "import platform; print(platform.python_version())"],
                capture_output=True,
                text=True,
                check=True,
            )
            return path, reported.stdout.strip()
    what = f"Python {version}, which the version was made with, is not on this machine, nor another {request}"
    raise AuditError(what, fix=f"Install it: uv python install {version}; or run again with {CURRENT}")


def _install(uv: str, interpreter: str, requirements: Requirements, folder: Path) -> dict[str, str]:
    _call([uv, "venv", "--quiet", "--no-project", "--python", interpreter, str(folder)], "cannot be created")
    file = folder / "requirements.txt"
    file.write_text(requirements.text, encoding="utf-8")
    command = [uv, "pip", "install", "--quiet", "--python", str(_python_in(folder)), "-r", str(file)]
    _call([*command, *(["--no-deps"] if requirements.is_complete else [])], "cannot be installed")
    listed = _call([uv, "pip", "list", "--format", "json", "--python", str(_python_in(folder))], "cannot be listed")
    return {str(package["name"]): str(package["version"]) for package in json.loads(listed)}


def _call(command: list[str], what: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=_uv_environment())
    if result.returncode:
        reason = one_line(cause_of(result.stderr)) or f"exit code {result.returncode}"
        raise AuditError(f"the environment of the version {what}: {reason}", fix=FIX)
    return result.stdout


def cause_of(message: str) -> str:
    """The cause in uv's message, without its drawing."""
    lines = [re.sub(r"^[\s×╰─▶│├·]+|^error: ", "", line).strip() for line in message.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("warning:", "WARNING:", "Using ", "hint:"))]
    return " ".join(kept)


def _uv_environment() -> dict[str, str]:
    """This environment with uv's settings. Those of pip, which uv does not read, are passed on where uv's own are not set."""
    left_out = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    has_index = bool(environment.get("UV_INDEX_URL"))
    of_pip = {
        "UV_FIND_LINKS": ",".join(environment.get("PIP_FIND_LINKS", "").split()) or _find_links_of_pip(),
        "UV_DEFAULT_INDEX": "" if has_index else environment.get("PIP_INDEX_URL", ""),
        "UV_INDEX": environment.get("PIP_EXTRA_INDEX_URL", ""),
        "UV_NO_INDEX": "1" if environment.get("PIP_NO_INDEX", "").lower() in ("1", "true", "yes", "on") else "",
        "SSL_CERT_FILE": environment.get("PIP_CERT", ""),
    }
    for name, value in of_pip.items():
        if value:
            environment.setdefault(name, value)
    return environment


@cache
def _find_links_of_pip() -> str:
    """The wheel folders in pip's configuration file, as `make setup` uses them."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return ",".join(result.stdout.split()) if result.returncode == 0 else ""


def _python_in(folder: Path) -> Path:
    windows = folder / "Scripts" / "python.exe"
    return windows if windows.exists() else folder / "bin" / "python"
