"""Scheduled runs of the flow: `strop schedule --cron "0 2 * * 0" --timezone Asia/Shanghai`, or `--every 1d`.

Prefect needs a server for schedules. If PREFECT_API_URL is not set, one is started on loopback and stopped afterwards.
For a team's work pool, prefect.yaml has the same deployment. The schedule and its runs also log to .strop/logs/strop.log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.runtime.environment import SCHEDULED, silence_libraries
from flows.runtime.lock import one_schedule
from tasks import paths
from tasks.errors import StropError
from tasks.runtime.logs.setup import FILE, set_up_logs

logger = logging.getLogger(__name__)

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class When:
    """Either `cron` (in `timezone`) or `interval`."""

    cron: str | None = None
    timezone: str = "UTC"
    interval: timedelta | None = None

    def __str__(self) -> str:
        return f"at {self.cron!r} ({self.timezone})" if self.cron else f"every {self.interval}"


def parse_schedule(cron: str | None, timezone: str | None, every: str | None) -> When:
    """Checks the options, and converts them.

    Raises:
        StropError: an option is invalid; the message has a valid example.
    """
    if every is not None:
        match = re.fullmatch(r"(\d+)\s*([smhdw])", every.strip())
        if match is None or int(match[1]) == 0:
            fix = "Write a number and a unit: 20s, 30m, 6h, 1d, 1w"
            raise StropError("not an interval", where=f"--every {every}", fix=fix)
        try:
            return When(interval=timedelta(**{UNITS[match[2]]: int(match[1])}))
        except OverflowError as error:
            raise StropError("too long", where=f"--every {every}", fix="Use a shorter interval, such as 52w") from error
    assert cron is not None
    _require_cron(cron)
    _require_timezone(timezone or "UTC")
    return When(cron=cron, timezone=timezone or "UTC")


def serve(when: When) -> None:
    """Serves the flow until the process is stopped.

    Raises:
        Busy: another process already serves a schedule of this project.
        StropError: there is no server, and none can be started.
    """
    with one_schedule():
        os.environ.setdefault(FILE, str(paths.LOG.absolute()))
        set_up_logs()
        silence_libraries()
        from flows.runtime.prefect_server import ensure_server, reporting_lost_server, require_server
        from flows.runtime.proxies import start_runs_without_proxies
        from flows.runtime.schedule_address import SECRET_FILE

        is_ours = not os.environ.get("PREFECT_API_URL")
        with reporting_lost_server():
            ui = ensure_server(schedules=True).removesuffix("/api")
            login = f" (its login is the line in {SECRET_FILE})" if is_ours else ""
            logger.info(f"schedule: {when}; watch it at {ui}{login}. Stop it with Ctrl-C.")
            os.environ[SCHEDULED] = "1"
            start_runs_without_proxies()
            _serve(when)
            require_server()


def _serve(when: When) -> None:
    import asyncio
    import signal

    from prefect.flows import EntrypointType
    from prefect.runner import Runner
    from prefect.schedules import Cron, Interval

    from flows.retrain import retrain

    class StoppableRunner(Runner):
        """Handles SIGTERM like Ctrl-C: Prefect's own handler leaves a run behind, and prints errors."""

        def handle_sigterm(self, *_: object, **__: object) -> None:
            signal.raise_signal(signal.SIGINT)

    # a shell that starts it in the background makes it ignore SIGINT, which stops it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # not paused at the end, or it would still be paused when it is served again
    runner = StoppableRunner(limit=1, pause_on_shutdown=False)
    runner.add_deployment(
        retrain.to_deployment(
            name=f"schedule-{Path.cwd().name}",
            schedules=[Cron(when.cron, timezone=when.timezone) if when.cron else Interval(when.interval)],
            parameters={"project": str(Path.cwd())},
            entrypoint_type=EntrypointType.MODULE_PATH,  # a file path would import it as another module
        )
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(runner.start())
    logger.info("schedule: stopped.")


def _require_cron(cron: str) -> None:
    from prefect._vendor.croniter import croniter
    from prefect.client.schemas.schedules import CronSchedule

    where, fix = f"--cron {cron!r}", 'Such as "0 2 * * 0": Sundays at 2'
    try:
        CronSchedule(cron=cron)
    except ValueError as error:
        raise StropError("not a cron schedule", where=where, fix=fix) from error
    try:
        croniter(cron, datetime.now(UTC)).get_next(datetime)
    except ValueError as error:  # 30 February
        raise StropError("there is no such day: the flow would never run", where=where, fix=fix) from error


def _require_timezone(name: str) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError) as error:
        raise StropError("no such time zone", where=f"--timezone {name}", fix="Such as Asia/Shanghai") from error
