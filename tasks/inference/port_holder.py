"""Which process listens on a port of this machine."""

from __future__ import annotations

from contextlib import suppress

import psutil


def older_holder(port: int, pid: int) -> str | None:
    """The process that listens on a port and is older than process `pid`, so that it is no server of it: `python (process 12)`.
    None: there is none, or this machine does not tell (processes of other users).

    A younger process may be the server, also where it is no descendant of the command: that of a container.
    """
    try:
        started = psutil.Process(pid).create_time()
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return None
    listening = {each.pid for each in connections if each.status == psutil.CONN_LISTEN and each.laddr.port == port}
    for holder in sorted(each for each in listening if each is not None):
        with suppress(psutil.Error):
            process = psutil.Process(holder)
            if process.create_time() < started:
                return f"{process.name()} (process {holder})"
    return None
