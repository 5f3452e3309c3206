"""Room `ingest`: collects new rows, adds them to DVC, and starts the round. Run it alone: `python -m tasks ingest`.

Batches and manifest are written first, then DVC, and only then steps that may fail, so that no collected row is lost.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tasks.ingest.sources import ingest_sources
from tasks.runtime.visible_text import printable
from tasks.state.decisions import begin_decisions

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)


def run(config: PipelineConfig, rejudge: bool = False) -> None:
    """Brings data/raw, data/base.json, data/decisions.jsonl and data/round.json up to date.

    Args:
        rejudge: start a new round although nothing has changed: the candidate is compared with the present champion.

    Raises:
        StropError: there is no git repository, a source cannot be read (the others were), there are no rows at all, or
            the base model is missing.
    """
    from tasks.ingest.open_round import open_round

    collect(config)
    open_round(config, rejudge)


def collect(config: PipelineConfig) -> None:
    """Brings data/raw, data/base.json and data/decisions.jsonl up to date. Paths of sources are relative to the project.

    Raises:
        StropError: as `run`.
    """
    from tasks.base.pin import pin_base
    from tasks.ingest.changes.intact import is_known_to_dvc, require_intact
    from tasks.vcs.dvc_pipeline import add_raw, require_private_secrets
    from tasks.vcs.git import require_repository

    require_repository()
    require_private_secrets()
    require_intact()
    result = ingest_sources(config.ingest)
    for source in result.sources:
        logger.info(f"ingest: {printable(source.summary())}")
    for problem in result.problems:
        text = problem.encode("utf-8", "backslashreplace").decode("utf-8")  # a file's name may not be UTF-8
        logger.warning(f"ingest: note: {printable(text)}")
    if result.changed or not is_known_to_dvc():
        add_raw()
    result.raise_errors()
    pin_base(config.base)
    begin_decisions()
