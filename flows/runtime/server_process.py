"""The process of our Prefect server: `python -m flows.runtime.server_process DESCRIPTOR [--schedules]`."""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    """Serves on a listening socket inherited from the parent."""
    from tasks.runtime.fast_imports import importing
    from tasks.runtime.parent_watchdog import end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    end_with_parent()
    os.umask(0o077)  # the database contains runs and their parameters
    if not os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        sys.exit(
            "flows.runtime.server_process: no secret in PREFECT_SERVER_API_AUTH_STRING: an open server would run any user's code"
        )
    listener = socket.socket(fileno=int(sys.argv[1]))
    schedules = "--schedules" in sys.argv
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    os.environ["PREFECT_API_URL"] = f"{origin}/api"
    for name in ("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"):
        os.environ[name] = origin
    os.environ.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)
    with importing():
        import uvicorn
        from prefect.server.api.server import create_app
        from prefect.settings import get_current_settings

    from flows.runtime.server_guard import report_full_disk
    from tasks.runtime.origin_guard import guard_origin

    app = create_app(ephemeral=not schedules, final=True)
    guarded = guard_origin(report_full_disk(app, get_current_settings().home))
    config = uvicorn.Config(guarded, log_level="error", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
