"""Runs a stage in the clone: with the code of the version, the environment's Python, no caches, and the recorded threads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import AuditError, one_line
from tasks.vcs.dvc_files import parse_yaml

SECONDS_TO_END = 20.0
_LEFT_OUT = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "STROP_SCHEDULED", "STROP_THREADS"),
    *("PYTHONSAFEPATH", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "STROP_SIGNING_KEY", "STROP_SIGNING_PASSPHRASE"),
)
"""Variables of this process that would give the stages other code, another repository, another log of threads, or a key that the
code of a commit has no use for."""


def run_stage(name: str, clone: Path, python: Path, variables: dict[str, str], log: Path) -> dict[str, str]:
    """Runs one stage, and returns the hash of each of its outputs.

    Args:
        python: of the environment in which it runs.
        variables: its environment variables.
        log: the file to which its output is appended.

    Raises:
        AuditError: it failed. The line has the last one of its log.
    """
    options = ["--quiet", "--single-item", "--force", "--no-run-cache"]
    command = [str(python), "-m", "dvc", "repro", *options, name]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"--- {name}\n".encode())
        file.flush()
        start = log.stat().st_size
        # a session of its own: Ctrl-C reaches this process only, which then ends the stage and its children
        process = subprocess.Popen(
            command,
            cwd=clone,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code:
        reason = last_line(log, start) or f"exit code {code}"
        what = f"stage `{name}` failed in the clone of the version: {reason}"
        raise AuditError(what, fix=f"Its log: {log}")
    return outputs_of(name, clone)


def outputs_of(name: str, clone: Path) -> dict[str, str]:
    """Path → hash of a stage's outputs, from the clone's dvc.lock."""
    stages = parse_yaml((clone / paths.DVC_LOCK).read_bytes()).get("stages") or {}
    return {str(out["path"]): str(out["md5"]) for out in (stages.get(name) or {}).get("outs") or () if "md5" in out}


def stage_environment(python: Path, receipt: dict[str, Any], clone: Path, *, is_own: bool) -> dict[str, str]:
    """The environment variables of the stages.

    Args:
        is_own: the environment is that of this process, which may find packages by PYTHONPATH.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DVC_") and (name not in _LEFT_OUT or (is_own and name == "PYTHONPATH"))
    }
    search_path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    hashes = clone / paths.DVC_SITE  # DVC's default may have pickles of another user (tasks/vcs/dvc_repo.py)
    hashes.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours = {"PATH": search_path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(hashes)}
    return {**kept, **ours, **recorded_threads(receipt)}


def recorded_threads(receipt: dict[str, Any]) -> dict[str, str]:
    """The environment variables that set the numbers of threads recorded in the receipt."""
    variables = {"OMP_NUM_THREADS": str(receipt["threads"])} if receipt.get("threads") else {}
    if by_step := (receipt.get("training") or {}).get("threads_by_step"):
        variables["STROP_THREADS"] = json.dumps(by_step)  # tasks/finetune/loop/thread_log.py
    return variables


def last_line(log: Path, start: int) -> str:
    """The last line of Strop's in the log of a stage; else the last line that is not DVC's."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("strop: ")]
    others = [line for line in lines if not line.startswith(("ERROR: failed to reproduce", "ERROR: failed to run"))]
    chosen = own or others or lines
    return one_line(chosen[-1].removeprefix("strop: ")).rstrip(".") if chosen else ""


@contextlib.contextmanager
def hangup_as_interrupt() -> Iterator[None]:
    """Handles the end of the terminal (SIGHUP) like Ctrl-C: the stages, in a session of their own, do not get it. Under `nohup` it
    stays ignored."""
    number = getattr(signal, "SIGHUP", None)
    is_main = threading.current_thread() is threading.main_thread()
    if number is None or not is_main or signal.getsignal(number) != signal.SIG_DFL:
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a stage with all of its processes."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [*parent.children(recursive=True), parent]
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.terminate()
        for member in psutil.wait_procs(family, timeout=SECONDS_TO_END)[1]:
            with contextlib.suppress(psutil.Error):
                member.kill()
    process.wait()
