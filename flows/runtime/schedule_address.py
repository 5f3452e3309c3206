"""The address of a running `strop schedule`'s server, for other commands: two servers on one database would lock each other out.

Address and secret are in files that only this user can read, and are valid only while the process that wrote them runs: it holds
the port. Later any process could take the port, and would receive the secret with the next request.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from flows.runtime.environment import PREFECT_FOLDER
from tasks.runtime.private_files import read_private, write_private

SECRET_FILE = PREFECT_FOLDER / "secret"
ADDRESS_FILE = PREFECT_FOLDER / "schedule.json"


def publish_address(url: str, secret: str) -> Callable[[], None]:
    """Writes both files; returns a function that removes them."""
    import psutil

    address, secret_file = ADDRESS_FILE.absolute(), SECRET_FILE.absolute()
    write_private(secret_file, f"{secret}\n")
    holder = {"url": url, "pid": os.getpid(), "started": psutil.Process().create_time()}
    write_private(address, json.dumps(holder))

    def withdraw() -> None:
        address.unlink(missing_ok=True)
        secret_file.unlink(missing_ok=True)

    return withdraw


def running_schedule() -> tuple[str, str] | None:
    """Address and secret of the server of this project's schedule; None if none is running.

    Raises:
        StropError: the files belong to another user.
    """
    try:
        holder = json.loads(read_private(ADDRESS_FILE))
        secret = read_private(SECRET_FILE).strip()
        return (str(holder["url"]), secret) if secret and _is_alive(holder) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_alive(holder: dict[str, object]) -> bool:
    import psutil

    try:
        process = psutil.Process(int(str(holder["pid"])))
        started = abs(process.create_time() - float(str(holder["started"]))) < 1.0  # else the pid was reused
        return bool(started and process.uids().real == os.getuid())
    except psutil.Error:
        return False
