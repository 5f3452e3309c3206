"""The quick scan before anything heavy: is there a reason to run at all? The command and the scheduled flow both ask.

It looks at the sources (stat), at DVC's status, and whether the last verdict was acted upon. No torch, MLflow or server.
"""

from __future__ import annotations

from flows.outcome import Outcome
from flows.promotion_decision import serving_version
from tasks.config import PipelineConfig


def is_nothing_new(config: PipelineConfig) -> bool:
    """Whether a run would find nothing to do."""
    from tasks.ingest.changes.scan import anything_new

    if anything_new(config.ingest):
        return False
    from tasks.register.pending import pending

    return is_clean() and not pending(config)


def is_clean() -> bool:
    """Whether every stage is up to date; what was seen is remembered, so that the next look takes a moment."""
    from tasks.vcs.dvc_fast_status import is_unchanged, remember, stamp

    if is_unchanged():
        return True
    from tasks.vcs import dvc_pipeline  # DVC takes half a second to import

    seen = stamp()
    if not dvc_pipeline.is_clean():
        return False
    remember(seen)
    return True


def nothing_new(config: PipelineConfig) -> Outcome:
    return Outcome("nothing_new", serving_version(config))
