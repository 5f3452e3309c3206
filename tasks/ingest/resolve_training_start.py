"""The models that the trainings of a round read: the champion to continue from, and versions used as teachers and reward models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.base.model_kind import kind_of_model
from tasks.base.pin import read_base
from tasks.dataset.forms import unusable_setting
from tasks.errors import BaseModelError, ConfigError, DataError
from tasks.model_store.ledger import read_ledger, version_named
from tasks.model_store.versions import commit_of, version_receipt, weights_folder
from tasks.runtime.files import folder_digest
from tasks.runtime.run_origin import written_path
from tasks.state.decisions import Decision, excluded_batches, read_decisions
from tasks.state.manifest import read_manifest
from tasks.state.round import Champion, Round
from tasks.state.training_start import Start, parse_start, read_start
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def new_start(config: PipelineConfig, round_: Round) -> Start:
    """The models for the trainings of a round.

    Raises:
        DataError: a setting names an unknown version.
        ConfigError: a setting of `evaluate` needs answers, which the candidate does not generate.
    """
    model, finetune, evaluate = config.register_.model_name, config.finetune, config.evaluate
    if name := unusable_setting(finetune.forms()[-1], evaluate):
        raise ConfigError("needs a model that generates answers", where=f"evaluate.{name}", fix="Remove it")
    champion = round_.champion if finetune.continue_from == "champion" else None
    if champion is not None:
        champion = _with_its_batches(champion, model)
        if not _has_new_batches(champion):  # the champion's own rows: it is trained as it was
            champion = _start_of(champion, model).champion
    named = finetune.models_named()
    return Start(
        finetune.forms(),
        champion,
        replay_share=finetune.replay_share if champion is not None else 1.0,
        versions={name: weights_of(name, model) for name in named if not written_path(name).is_dir()},
        folders={name: folder_digest(written_path(name)) for name in named if written_path(name).is_dir()},
        anchors=evaluate.anchors,
        shots=evaluate.shots,
        answer_tokens=evaluate.max_new_tokens if evaluate.shots else 0,
    )


def is_start_of(model: str) -> bool:
    """Whether data/start.json exists, belongs to this model, and the folders that it names are unchanged."""
    if not paths.START.exists():
        return False
    start = read_start()
    known = {entry.weights_digest for entry in read_ledger(model)}
    digests = {*start.versions.values(), *([start.champion.weights_digest] if start.champion else [])}
    folders = {name: folder_digest(written_path(name)) for name in start.folders if written_path(name).is_dir()}
    return digests <= known and folders == start.folders


def require_comparable(champion: Champion, folder: Path, config: PipelineConfig) -> None:
    """Checks that the candidate can be compared with the champion, or continue its training.

    Raises:
        BaseModelError: the champion has another base, or another kind of output.
    """
    base = receipt_of(config.register_.model_name, champion.version).get("base", {})
    _require_comparable(champion.version, base, kind_of_model(folder), read_base().digest, config)


def require_comparable_version(version: int, base_digest: str | None, config: PipelineConfig) -> None:
    """As `require_comparable`, by the receipt alone: without the champion's weights.

    Args:
        base_digest: of the present base; None where it does not exist yet.
    """
    receipt = receipt_of(config.register_.model_name, version)
    objective = receipt.get("training", {}).get("objective")
    kind = config.finetune.kind_of(objective) if objective else None
    _require_comparable(version, receipt.get("base", {}), kind, base_digest, config)


def _require_comparable(
    version: int, base: dict[str, Any], kind: str | None, base_digest: str | None, config: PipelineConfig
) -> None:
    fix = "or start a new model: another register.model_name"
    if base_digest is not None and base.get("digest", base_digest) != base_digest:
        what = f"the champion (version {version}) was trained from another base, a former state of {base.get('id')}"
        raise BaseModelError(what, where="base.model", fix=f"Set the base of the champion again, {fix}")
    ours = config.finetune.model_kind()
    if kind is not None and kind != ours:
        what = f"the champion (version {version}) {kind}, and the candidate {ours}: they cannot be compared"
        raise BaseModelError(what, where="finetune.objective", fix=f"Set the objective of the champion again, {fix}")


def fetch_initial_weights(model: str) -> None:
    """Copies all weights of data/start.json to .strop/models.

    Raises:
        VersioningError: weights are missing.
    """
    start, entries = read_start(), read_ledger(model)
    if start.champion is not None:
        weights_folder(model, start.champion.version, start.champion.weights_digest)
    for digest in start.versions.values():
        version = next(entry.version for entry in reversed(entries) if entry.weights_digest == digest)  # is_start_of
        weights_folder(model, version, digest)


def _with_its_batches(champion: Champion, model: str) -> Champion:
    """The champion with the batches of its training: those of its receipt that were not excluded then."""
    receipt = receipt_of(model, champion.version)
    excluded = excluded_batches([Decision(**decision) for decision in receipt.get("decisions", [])])
    batches = tuple(batch for batch in champion.batches if batch not in excluded)
    return Champion(champion.version, champion.weights_digest, batches)


def _has_new_batches(champion: Champion) -> bool:
    excluded = excluded_batches(read_decisions())
    now = {batch.batch for batch in read_manifest()} - excluded
    return not now <= set(champion.batches)


def _start_of(champion: Champion, model: str) -> Start:
    """The models of the champion's own training."""
    commit = commit_of(model, champion.version)
    content = git.read_at(commit, paths.START) if commit else None
    return parse_start(content.decode("utf-8")) if content else Start()


def receipt_of(model: str, version: int) -> dict[str, Any]:
    """The version's receipt; empty if its commit was not fetched."""
    return version_receipt(model, version) or {}


def weights_of(name: str, model: str) -> str:
    """The weights digest of the version with this name."""
    entry = version_named(read_ledger(model), name)
    if entry is None:
        what = f"there is neither a folder {name} nor a version {name} of {model}"
        raise DataError(what, where="params.yaml, finetune", fix="See the versions: strop history")
    return entry.weights_digest
