"""Opens the round: fixes who the champion is and how many looks were spent (data/round.json), and what the trainings begin with
(data/start.json).

Both are rewritten only when data, parameters or code have changed, the round on `--rejudge` too: not by a promotion, a rollback
or an alias moved by hand. So nothing is judged, or trained, anew because the world moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import DataError
from tasks.ingest.resolve_training_start import (
    fetch_what_it_starts_with,
    is_start_of,
    require_comparable,
    start_of_today,
)
from tasks.model_store.ledger import champion_of, read_ledger, spent_looks
from tasks.model_store.versions import commit_of, receipt_at, weights_folder
from tasks.state.round import Champion, Round, read_round, write_round
from tasks.state.training_start import write_start
from tasks.vcs import dvc_pipeline, git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def open_round(config: PipelineConfig, rejudge: bool = False) -> Round:
    """The round that the stages will see, its champion's weights at hand in .strop/models/<digest>.

    Raises:
        VersioningError: the champion's weights cannot be found.
        BaseModelError: the champion has another base, or does something else than the candidate will.
    """
    git.require_repository()
    model = config.register_.model_name
    is_news = _is_news()
    round_ = None if rejudge or is_news else _standing_round(model)
    if round_ is None:
        round_ = _round_of_today(model)
    if round_.champion is not None:
        folder = weights_folder(model, round_.champion.version, round_.champion.weights_digest)
        require_comparable(round_.champion, folder, config)
    write_round(round_)
    if is_news or not is_start_of(model):
        write_start(start_of_today(config, round_))
    fetch_what_it_starts_with(model)
    return round_


def _is_news() -> bool:
    """Whether data, parameters or code changed since the stages last ran; the round itself is no news."""
    ignored = {str(paths.ROUND), str(paths.START)}
    return not paths.ROUND.exists() or bool(dvc_pipeline.changed_inputs(ignoring=ignored))


def _standing_round(model: str) -> Round | None:
    """The round as it is; None where it was damaged, or is of another model, which is mended by writing it anew."""
    try:
        round_ = read_round()
    except DataError:
        return None
    known = {entry.weights_digest for entry in read_ledger(model)}
    return round_ if round_.champion is None or round_.champion.weights_digest in known else None


def _round_of_today(model: str) -> Round:
    entries = read_ledger(model)
    champion = champion_of(entries)
    epoch, looks = spent_looks(entries)
    if champion is None:
        return Round(None, epoch, looks)
    batches = _batches_of(model, champion.version)
    return Round(Champion(champion.version, champion.weights_digest, batches), epoch, looks)


def _batches_of(model: str, version: int) -> tuple[str, ...]:
    """The raw batches in a version's receipt; none where its commit was not fetched."""
    commit = commit_of(model, version)
    receipt = receipt_at(commit) if commit else None
    return tuple(batch["batch"] for batch in receipt["manifest"]) if receipt else ()
