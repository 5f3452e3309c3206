"""The models to compare: base, champion (if there is one) and candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.load import labels_of, load_base, load_trained
from tasks.base.model_kind import kind_of_model
from tasks.base.pin import BaseRecord
from tasks.base.precision import Precision
from tasks.base.weights_digest import weights_digest
from tasks.errors import BaseModelError, DataError
from tasks.runtime.files import file_digest, read_json
from tasks.state.round import Champion, Round


@dataclass(frozen=True)
class ModelSpec:
    role: str
    """ "base", "champion" or "candidate"."""
    digest: str
    """Digest of its weights; for the base, of the base model."""
    load: Callable[[], Any]
    """Can be pickled, for the process of another GPU."""
    labels: tuple[str, ...] | None = None
    """The labels of its head; None without a head."""
    folder: Path | None = None
    """Of a trained model; None for the base."""


def list_models(round_: Round, record: BaseRecord, precision: Precision) -> list[ModelSpec]:
    """The models of this round. Checks that they exist, are unchanged and comparable.

    Raises:
        DataError: the candidate's or the champion's weights are missing or changed.
        BaseModelError: the champion has another base.
    """
    candidate = _trained("candidate", weights_digest(paths.MODEL), paths.MODEL, record, precision)
    base = ModelSpec("base", record.digest, partial(load_base, record, precision))
    if round_.champion is None:
        return [base, candidate]
    folder = paths.MODELS / round_.champion.weights_digest
    _require_champion(round_.champion, folder, record)
    champion = _trained("champion", round_.champion.weights_digest, folder, record, precision)
    return [base, champion, candidate]


def _trained(role: str, digest: str, folder: Path, record: BaseRecord, precision: Precision) -> ModelSpec:
    return ModelSpec(role, digest, partial(load_trained, folder, record, precision), labels_of(folder), folder)


def _require_champion(champion: Champion, folder: Path, record: BaseRecord) -> None:
    fix = f"Fetch it again: rm -r {folder}, then strop run --rejudge"
    if not folder.is_dir():
        raise DataError(f"the champion (version {champion.version}) is missing", where=str(folder), fix=fix)
    if weights_digest(folder) != champion.weights_digest:
        raise DataError(
            f"the weights of the champion (version {champion.version}) have changed", where=str(folder), fix=fix
        )
    if difference := _other_base(folder, record):
        raise BaseModelError(
            f"the champion (version {champion.version}) has another base ({difference}), "
            "so the two models cannot be compared on the same prompts",
            where="base.model",
            fix="Set the champion's base again, or start another model: set another register.model_name",
        )
    theirs, ours = kind_of_model(folder), kind_of_model(paths.MODEL)
    if theirs != ours:
        raise BaseModelError(
            f"the champion (version {champion.version}) {theirs}, and the candidate {ours}: the two cannot be compared",
            where="finetune.objective",
            fix="Set the champion's objective again, or start another model: set another register.model_name",
        )


def _other_base(folder: Path, record: BaseRecord) -> str | None:
    """How the trained model in `folder` differs from the base; None if it belongs to it."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and (base := read_json(adapter).get("base_model_name_or_path")) != record.id:
        return f"{base}, not {record.id}"
    theirs, ours = folder / "tokenizer.json", paths.MODEL / "tokenizer.json"
    if theirs.is_file() and ours.is_file() and file_digest(theirs) != file_digest(ours):
        return "its tokenizer differs"
    return None
