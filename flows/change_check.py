"""The quick check before a run, for the command and the scheduled flow: is there anything to do?

It checks the sources (stat), DVC's status, and whether the last verdict was acted on. No torch, MLflow or server.
"""

from __future__ import annotations

from flows.outcome import Outcome
from flows.promotion_decision import serving_version
from tasks.config import PipelineConfig


def is_nothing_new(config: PipelineConfig) -> bool:
    """Whether a run would have nothing to do."""
    from tasks.ingest.changes.scan import anything_new

    if anything_new(config.ingest):
        return False
    from tasks.register.pending import pending

    return is_clean() and not pending(config)


def is_clean() -> bool:
    """Whether every stage is up to date. A positive result is cached, which makes the next check fast."""
    from tasks.vcs.dvc_fast_status import is_unchanged, save_clean_digest, stat_digest

    if is_unchanged():
        return True
    from tasks.vcs import dvc_pipeline  # DVC takes half a second to import

    digest = stat_digest()
    if not dvc_pipeline.is_clean():
        return False
    save_clean_digest(digest)
    return True


def nothing_new(config: PipelineConfig) -> Outcome:
    return Outcome("nothing_new", serving_version(config))
