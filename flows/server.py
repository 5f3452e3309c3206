"""A Prefect server of our own, on loopback, for as long as a run or a schedule lasts. It ends with its parent.

    url = ensure_server()        # the one that PREFECT_API_URL names, where it is set

Prefect's own temporary server would outlive a `kill -9` of the command, and cannot schedule. This one is a process of
ours: `python -m flows.server PORT [--schedules]`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from flows.environment import PREFECT_FOLDER
from tasks.errors import StropError

STARTUP_SECONDS = 120.0
USUAL_PORT = 4200


@dataclass
class Server:
    """A server that is coming up."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self, seconds: float = STARTUP_SECONDS) -> None:
        """Returns when it answers.

        Raises:
            StropError: it ended, or did not answer in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if is_healthy(self.url):
                return
            if self.process.poll() is not None:
                raise StropError("the Prefect server did not start", where=str(self.log), fix="Its log says why")
            time.sleep(0.1)
        raise StropError(
            f"the Prefect server gave no answer in {seconds:.0f} s", where=str(self.log), fix="Its log may say why"
        )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ensure_server(*, schedules: bool = False) -> str:
    """The address of a Prefect API: the one that PREFECT_API_URL names, that of a running `strop schedule`, or a new one.

    Call it before Prefect is imported: the server comes up meanwhile. Called again in one process, it is the same server.

    Raises:
        StropError: there is none at PREFECT_API_URL, or ours does not start.
    """
    if named := os.environ.get("PREFECT_API_URL"):
        if not is_healthy(named):
            raise StropError(
                "no Prefect server answers there", where=f"PREFECT_API_URL={named}", fix="Start it, or unset it"
            )
        return named
    if running := _running_schedule():
        os.environ["PREFECT_API_URL"] = running
        return running
    server = _start(schedules)
    # registered before Prefect is imported, so that it runs after Prefect's own: that sends its last records at exit
    atexit.register(server.stop)
    os.environ["PREFECT_API_URL"] = server.url
    import prefect  # noqa: F401  # 2 to 3 seconds

    server.wait_until_ready()
    if schedules:
        _address_file().write_text(json.dumps({"url": server.url}))
        atexit.register(_address_file().absolute().unlink, missing_ok=True)
    return server.url


def is_healthy(url: str, timeout_seconds: float = 5.0) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=timeout_seconds) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _start(schedules: bool) -> Server:
    port = _free_port(USUAL_PORT if schedules else 0)
    log = (PREFECT_FOLDER / "server.log").absolute()
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", "flows.server", str(port), *(["--schedules"] if schedules else [])]
    with log.open("wb") as file:
        process = subprocess.Popen(
            arguments, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    return Server(f"http://127.0.0.1:{port}/api", process, log)


def _free_port(wish: int) -> int:
    for port in (wish, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise StropError("no free port", where="127.0.0.1", fix="Set PREFECT_API_URL to a running server")


def _address_file() -> Path:
    return PREFECT_FOLDER / "schedule.json"


def _running_schedule() -> str | None:
    """The server of a `strop schedule` in this project: two servers on one database would lock each other out."""
    try:
        url = str(json.loads(_address_file().read_text())["url"])
    except (OSError, ValueError, KeyError):
        return None
    return url if is_healthy(url) else None


def main() -> None:
    from tasks.quick_start import importing
    from tasks.watchdog import end_with_parent

    end_with_parent()
    port, schedules = int(sys.argv[1]), "--schedules" in sys.argv
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    os.environ.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)
    with importing():
        import uvicorn
        from prefect.server.api.server import create_app

    app = create_app(ephemeral=not schedules, final=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
