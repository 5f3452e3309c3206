"""The gateway's side of the delivery to MLflow: starts the process, and starts it again if it ends.

    async with DelivererClient(config.serve):       # nothing if `serve.deliver` or `serve.record` is off
        ...

The gateway sends it nothing: it reads the records that the recorder wrote.
"""

from __future__ import annotations

from tasks.errors import ConfigError
from tasks.serve.own_code import own_command
from tasks.serve.settings import ServeSettings
from tasks.serve.side_process import RESTART_SECONDS, SideProcess


class DelivererClient(SideProcess):
    """It ends after the portion that it is delivering; the rest is delivered after the next start."""

    def __init__(self, settings: ServeSettings) -> None:
        super().__init__("the delivery to MLflow", own_command("tasks.serve.deliver.process"), RESTART_SECONDS)
        self.settings = settings

    async def open(self) -> None:
        """Raises ConfigError if `serve.review.slice` is no condition."""
        if not (self.settings.deliver.is_on and self.settings.record.is_on):
            return
        require_slice(self.settings.review.slice)
        await super().open()


def require_slice(condition: str | None) -> None:
    """Raises ConfigError if it is no condition on an answer."""
    if condition is None:
        return
    from tasks.serve.deliver.worth_review import parse_slice

    try:
        parse_slice(condition)
    except ValueError as error:
        fix = "Its columns are in docs/settings.md"
        raise ConfigError(f"is no condition on an answer: {error}", where="serve.review.slice", fix=fix) from error
