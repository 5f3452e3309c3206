"""ASGI middleware of our Prefect server: reports a full disk at once."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.runtime.origin_guard import App, Message, Receive, Send

FIRST_FAILURE = 500
"""If its database cannot be written, Prefect responds with 503 or 500; clients then retry for minutes, or report no reason."""
INSUFFICIENT_STORAGE = 507
"""Clients do not retry after this status."""
FULL_BYTES = 4_000_000
"""SQLite needs some space for its journal."""


def report_full_disk(app: App, folder: Path) -> App:
    """Wraps the application: its failures on a full disk get status 507.

    Args:
        folder: any folder on the database's disk.
    """

    async def reporting(scope: Message, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            is_failure = message["type"] == "http.response.start" and message["status"] >= FIRST_FAILURE
            if is_failure and is_full(folder):
                message = {**message, "status": INSUFFICIENT_STORAGE}
            await send(message)

        await app(scope, receive, sending)

    return reporting


def is_full(folder: Path) -> bool:
    """Whether a database in the folder has no space left to write."""
    return shutil.disk_usage(folder).free < FULL_BYTES
