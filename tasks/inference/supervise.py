"""Runs a command as the leader of its process group, and ends the whole group with it or with Strop.

    python supervise.py PARENT COMMAND …

Imports nothing of Strop: it is started by its path, and must start at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 10.0


def main() -> int:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    is_ending = []
    signal.signal(signal.SIGTERM, lambda *_: is_ending.append(True))
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return 127
    while child.poll() is None and not is_ending and os.getppid() == parent:
        time.sleep(0.2)
    code = child.poll()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)  # also what the command has left behind
    deadline = time.monotonic() + GRACE_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if code is None:
        child.kill()
        return 143
    return code


if __name__ == "__main__":
    exit_code = main()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os._exit(exit_code if 0 <= exit_code < 256 else 128 - exit_code)
