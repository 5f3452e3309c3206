"""What today's trainings begin with: the champion that is trained on, and the registered versions that teach or judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.base.model_kind import kind_of_model
from tasks.base.pin import read_base
from tasks.errors import BaseModelError, DataError
from tasks.model_store.ledger import read_ledger, version_named
from tasks.model_store.versions import commit_of, receipt_at, weights_folder
from tasks.runtime.files import folder_digest
from tasks.runtime.run_origin import written_path
from tasks.state.decisions import Decision, excluded_batches, read_decisions
from tasks.state.manifest import read_manifest
from tasks.state.round import Champion, Round
from tasks.state.training_start import Start, parse_start, read_start
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def start_of_today(config: PipelineConfig, round_: Round) -> Start:
    """What the trainings begin with, if the round is `round_`.

    Raises:
        DataError: a version is named that there is not.
    """
    model, finetune = config.register_.model_name, config.finetune
    champion = round_.champion if finetune.continue_from == "champion" else None
    if champion is not None:
        champion = _with_rows_it_saw(champion, model)
        if not _has_new_batches(champion):  # what the champion was made of is here again: so is how it was made
            champion = _start_of(champion, model).champion
    named = finetune.models_named()
    return Start(
        finetune.forms(),
        champion,
        replay_share=finetune.replay_share if champion is not None else 1.0,
        versions={name: _weights_of(name, model) for name in named if not written_path(name).is_dir()},
        folders={name: folder_digest(written_path(name)) for name in named if written_path(name).is_dir()},
    )


def is_start_of(model: str) -> bool:
    """Is data/start.json there, of this model, and are the folders that it names as they were?"""
    if not paths.START.exists():
        return False
    start = read_start()
    known = {entry.weights_digest for entry in read_ledger(model)}
    digests = {*start.versions.values(), *([start.champion.weights_digest] if start.champion else [])}
    folders = {name: folder_digest(written_path(name)) for name in start.folders if written_path(name).is_dir()}
    return digests <= known and folders == start.folders


def require_comparable(champion: Champion, folder: Path, config: PipelineConfig) -> None:
    """Before any work: can the candidate be compared with the champion, or trained on from it?

    Raises:
        BaseModelError: it was made from other weights than today's base, or does something else.
    """
    fix = "or begin a model of its own: another register.model_name"
    base = _receipt_of(champion, config.register_.model_name).get("base", {})
    if base.get("digest", read_base().digest) != read_base().digest:
        what = f"the champion (version {champion.version}) was made from another base: {base.get('id')} as it was then"
        raise BaseModelError(what, where="base.model", fix=f"Set the base of the champion again, {fix}")
    theirs, ours = kind_of_model(folder), config.finetune.model_kind()
    if theirs != ours:
        what = (
            f"the champion (version {champion.version}) {theirs}, and the candidate {ours}: the two cannot be compared"
        )
        raise BaseModelError(what, where="finetune.objective", fix=f"Set the objective of the champion again, {fix}")


def fetch_what_it_starts_with(model: str) -> None:
    """Brings all weights of data/start.json into .strop/models.

    Raises:
        VersioningError: they cannot be found.
    """
    start, entries = read_start(), read_ledger(model)
    if start.champion is not None:
        weights_folder(model, start.champion.version, start.champion.weights_digest)
    for digest in start.versions.values():
        version = next(entry.version for entry in reversed(entries) if entry.weights_digest == digest)  # is_start_of
        weights_folder(model, version, digest)


def _with_rows_it_saw(champion: Champion, model: str) -> Champion:
    """The champion with the batches that it was trained on: those of its receipt that were not excluded then."""
    receipt = _receipt_of(champion, model)
    excluded = excluded_batches([Decision(**each) for each in receipt.get("decisions", [])])
    batches = tuple(batch for batch in champion.batches if batch not in excluded)
    return Champion(champion.version, champion.weights_digest, batches)


def _has_new_batches(champion: Champion) -> bool:
    excluded = excluded_batches(read_decisions())
    now = {batch.batch for batch in read_manifest()} - excluded
    return not now <= set(champion.batches)


def _start_of(champion: Champion, model: str) -> Start:
    """What the champion itself was begun with."""
    commit = commit_of(model, champion.version)
    content = git.read_at(commit, paths.START) if commit else None
    return parse_start(content.decode("utf-8")) if content else Start()


def _receipt_of(champion: Champion, model: str) -> dict[str, Any]:
    commit = commit_of(model, champion.version)
    return (receipt_at(commit) if commit else None) or {}


def _weights_of(name: str, model: str) -> str:
    """The digest of the weights of the version that is called so."""
    entry = version_named(read_ledger(model), name)
    if entry is None:
        what = f"there is no folder {name}, and no version of {model} that is called so"
        raise DataError(what, where="params.yaml, finetune", fix="See the versions: strop history")
    return entry.weights_digest
