"""Settings under which ratings are lost before they have decided. Pure; it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def record_problems(config: PipelineConfig) -> list[tuple[str, str]]:
    """(what, fix) of settings under which the ratings of a canary cannot decide."""
    canary, days = config.serve.canary, config.retention.served_days
    if not config.serve.record.is_on:
        if config.promote.approval != "canary":
            return []
        what = "nothing is recorded, so that no rating decides about a candidate (promote.approval: canary)"
        return [(what, "Set serve.record.is_on: true, or another promote.approval")]
    if days < canary.days:
        what = f"records are kept for {days:g} days, and a canary takes up to {canary.days:g}: its first ratings would be lost"
        return [(what, "Raise retention.served_days, or lower serve.canary.days")]
    return []
