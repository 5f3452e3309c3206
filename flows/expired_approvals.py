"""A candidate whose approval expired is reported once by a later run; `strop status` shows it until it is judged again."""

from __future__ import annotations

import logging

from tasks import paths
from tasks.config import PipelineConfig
from tasks.model_store.ledger_entries import Entry
from tasks.promote.candidates import as_time, waiting_candidates
from tasks.runtime.files import read_object, write_json

logger = logging.getLogger(__name__)

REPORTED = paths.CACHE / "expired.json"
"""Model → the versions that were reported. Without the file they are reported again."""


def report_expired(config: PipelineConfig, entries: list[Entry]) -> None:
    """Reports each version whose approval has expired, unless this clone has reported it before."""
    model = config.register_.model_name
    expired = {each.version: each for each in waiting_candidates(config, entries) if each.is_expired}
    reported = read_object(REPORTED)
    known = reported.get(model, [])
    if not (new := sorted(expired.keys() - set(known))):
        return
    for version in new:
        logger.warning(
            f"promote: v{version} passed the gate, but its approval expired on {as_time(expired[version].until)}. "
            "To judge it again: strop run --rejudge"
        )
    write_json(REPORTED, {**reported, model: sorted({*known, *new})})
