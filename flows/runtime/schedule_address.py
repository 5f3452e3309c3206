"""Where the server of a running `strop schedule` is, for other commands in the project: two on one database lock each other out.

The address and the secret stand in files that this user alone can read, and hold only while the process that wrote them lives:
that process holds the port. Afterwards anybody could take the port, and with the next request the secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from flows.runtime.environment import PREFECT_FOLDER
from flows.runtime.private_files import read_private, write_private

SECRET_FILE = PREFECT_FOLDER / "secret"
ADDRESS_FILE = PREFECT_FOLDER / "schedule.json"


def publish_address(url: str, secret: str) -> Callable[[], None]:
    """Writes both files; returns what removes them."""
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
    """Address and secret of the server of this project's schedule; None where none is running.

    Raises:
        StropError: the files are another user's.
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
        started = abs(process.create_time() - float(str(holder["started"]))) < 1.0  # else another has its number now
        return bool(started and process.uids().real == os.getuid())
    except psutil.Error:
        return False
