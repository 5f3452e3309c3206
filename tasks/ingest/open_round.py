"""Starts the round: writes the champion and the number of looks (data/round.json), and the initial weights of the trainings
(data/start.json).

Both are rewritten only if data, parameters or code have changed, the round also by `--rejudge`: not by a promotion, a rollback or a
changed alias. So these do not start an evaluation or a training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import DataError
from tasks.ingest.resolve_training_start import (
    fetch_initial_weights,
    is_start_of,
    new_start,
    receipt_of,
    require_comparable,
)
from tasks.model_store.ledger import budget_of, champion_of, read_ledger
from tasks.model_store.ledger_chain import FETCH
from tasks.model_store.versions import weights_folder
from tasks.state.round import Champion, Round, read_round, write_round
from tasks.state.training_start import write_start
from tasks.vcs import dvc_pipeline, git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def open_round(config: PipelineConfig, rejudge: bool = False) -> Round:
    """The round that the stages read; its champion's weights are then in .strop/models/<digest>.

    Raises:
        VersioningError: the champion's weights cannot be found.
        BaseModelError: the champion has another base, or another kind of output than the candidate.
    """
    git.require_repository()
    model = config.register_.model_name
    has_changed = _has_changed()
    round_ = None if rejudge or has_changed else _present_round(model)
    if round_ is None:
        round_ = _new_round(model)
    if round_.champion is not None:
        folder = weights_folder(model, round_.champion.version, round_.champion.weights_digest)
        require_comparable(round_.champion, folder, config)
    write_round(round_)
    if has_changed or not is_start_of(model):
        write_start(new_start(config, round_))
    fetch_initial_weights(model)
    return round_


def _has_changed() -> bool:
    """Whether data, parameters or code have changed since the last run of the stages; the round itself does not count."""
    ignored = {str(paths.ROUND), str(paths.START)}
    return not paths.ROUND.exists() or bool(dvc_pipeline.changed_inputs(ignoring=ignored))


def _present_round(model: str) -> Round | None:
    """The round in data/round.json; None if it is damaged or of another model: it is then written again."""
    try:
        round_ = read_round()
    except DataError:
        return None
    known = {entry.weights_digest for entry in read_ledger(model)}
    return round_ if round_.champion is None or round_.champion.weights_digest in known else None


def _new_round(model: str) -> Round:
    entries = read_ledger(model)
    champion = champion_of(entries)
    budget = budget_of(entries)
    if champion is None:
        return Round(None, *budget)
    batches = _batches_of(model, champion.version)
    return Round(Champion(champion.version, champion.weights_digest, batches), *budget)


def _batches_of(model: str, version: int) -> tuple[str, ...]:
    """The raw batches in a version's receipt.

    Raises:
        DataError: its commit was not fetched: without it, the gate could not compare the established test rows.
    """
    receipt = receipt_of(model, version)
    if not receipt:
        raise DataError(f"the commit of the champion (version {version}) is missing", where=model, fix=FETCH)
    return tuple(batch["batch"] for batch in receipt["manifest"])
