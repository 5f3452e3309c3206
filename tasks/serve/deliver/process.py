"""The deliverer process: makes MLflow traces of the records of the project's servers.

    python -m tasks.serve.deliver.process     # in the project, started by DelivererClient

It ends when its standard input is closed, or when its parent ends. While MLflow is away or locked, records wait in their files.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import StropError
from tasks.serve.side_process import end_with_input

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.serve.deliver.delivery import Delivery

logger = logging.getLogger(__name__)

WAIT_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""The wait after each failure in a row; the last one is repeated."""
END_SECONDS = 10.0
"""For a portion that is being delivered. What it interrupts is delivered again, and stored once."""


class Deliverer:
    """Delivers until an event is set.

    Args:
        open_delivery: None while there is no registry.
    """

    def __init__(
        self,
        open_delivery: Callable[[], Delivery | None],
        has_new_records: Callable[[], bool],
        seconds: float,
        ended: threading.Event,
    ) -> None:
        self.open_delivery, self.has_new_records, self.seconds, self.ended = (
            open_delivery,
            has_new_records,
            seconds,
            ended,
        )
        self.failures = 0
        self._delivery: Delivery | None = None
        self._is_waiting = False

    def run(self) -> None:
        while not self.ended.is_set():
            self.ended.wait(self.step())

    def step(self) -> float:
        """Delivers a portion; returns the seconds until the next one."""
        try:
            if self._delivery is None:
                if not self.has_new_records():
                    return self.seconds
                self._delivery = self.open_delivery()
            if self._delivery is None:
                if not self._is_waiting:
                    logger.info("serve: there is no registry yet: records wait for it")
                self._is_waiting = True
                return max(self.seconds, WAIT_SECONDS[-1])
            has_more = self._delivery.step()
        except StropError as error:
            if not self.failures:
                logger.warning(f"serve: records wait, because they cannot be delivered to MLflow: {error}")
            self._delivery = None
            self.failures += 1
            return WAIT_SECONDS[min(self.failures, len(WAIT_SECONDS)) - 1]
        if self.failures or self._is_waiting:
            logger.info("serve: records are delivered to MLflow again")
        self.failures, self._is_waiting = 0, False
        return 0.0 if has_more else self.seconds


def deliverer_of(config: PipelineConfig, ended: threading.Event) -> Deliverer:
    def open_delivery() -> Delivery | None:
        from tasks.serve.deliver.delivery import Delivery
        from tasks.tracking.served_traces import open_traces

        traces = open_traces(config)
        return None if traces is None else Delivery(paths.SPOOL, traces, config.serve.review)

    def has_new() -> bool:
        from tasks.serve.deliver.delivery import has_new_records

        return has_new_records(paths.SPOOL)

    return Deliverer(open_delivery, has_new, config.serve.deliver.seconds, ended)


def main() -> None:
    from tasks.config import load_config
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    set_up_logs("serve")
    ended = end_with_input(END_SECONDS)
    logging.getLogger("tasks.tracking.sqlite_paths").setLevel(logging.ERROR)  # it would report each wait for a lock
    deliverer_of(load_config(), ended).run()


if __name__ == "__main__":
    main()
