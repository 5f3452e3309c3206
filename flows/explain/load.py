"""Loads a model as it was registered: weights, tokenizer, chat template and instruction templates of its own folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.convert import base_folder
from tasks.base.load import ADAPTER, is_adapter, labels_of, load_base, load_tokenizer, load_trained
from tasks.base.model_kind import REWARD
from tasks.base.pin import pin_base
from tasks.base.precision import precision_of
from tasks.base.weights_digest import weights_digest
from tasks.config import PipelineConfig
from tasks.dataset.rendered import TEMPLATES, thinks_by_training
from tasks.errors import BaseModelError
from tasks.lineage.run_predictions import resolve
from tasks.model_store.ledger import judgement_of, read_ledger
from tasks.model_store.versions import weights_folder
from tasks.prompts.templates.templates import FamilyTemplates, parse_family, read_templates
from tasks.runtime.files import read_json
from tasks.runtime.threads import Threads


@dataclass(frozen=True)
class RegisteredModel:
    label: str
    """`champion v2`, `v3`, `base`, `candidate`."""
    digest: str
    base: str
    model: Any
    tokenizer: Any
    labels: tuple[str, ...] | None
    """Of its head; None if it generates."""
    families: dict[str, FamilyTemplates]
    thinks: bool
    precision: str
    threads: Threads

    @property
    def facts(self) -> dict[str, str]:
        return {"model": self.label, "weights": self.digest, "base": self.base, "precision": self.precision}

    @property
    def version(self) -> str:
        """`v2`, `base` or `candidate`."""
        return self.label.split()[-1]


def load_registered(config: PipelineConfig, name: str) -> RegisteredModel:
    """The model that a user names, as for `strop compare`. One with a head is loaded in fp32, for exact gradients.

    Raises:
        DataError: there is no such version.
        BaseModelError: it is the base, which has no head yet, or belongs to another base.
    """
    named = resolve(config.register_.model_name, name)
    record = pin_base(config.base)
    threads = Threads("explain", is_quiet=True)
    precision = precision_of(config.evaluate.precision)
    if named.is_base:
        if config.finetune.spec.head != "none":
            fix = "Explain a version: strop explain ROW --version candidate"
            raise BaseModelError("the base has no head yet", where="--version base", fix=fix)
        model, tokenizer = load_base(record, precision), load_tokenizer(base_folder(record), config.base.chat_template)
        label, digest, labels, families, thinks = "base", record.digest, None, read_templates(), False
    else:
        folder, digest = _folder(config, named.version)
        _require_base(folder, record.id, named.label)
        label, labels = named.label, labels_of(folder)
        precision = precision if labels is None else "fp32"
        model = load_trained(folder, record, precision)
        tokenizer = load_tokenizer(folder, generates=labels in (None, REWARD))
        families, thinks = _templates(folder), thinks_by_training(folder)
    threads.follow(model)
    return RegisteredModel(label, digest, record.id, model, tokenizer, labels, families, thinks, precision, threads)


def _folder(config: PipelineConfig, version: int | None) -> tuple[Path, str]:
    """The folder of a version's model, and the digest of its weights; None: the candidate, which is not registered."""
    if version is None:
        return paths.MODEL, weights_digest(paths.MODEL)
    name = config.register_.model_name
    entry = judgement_of(read_ledger(name), version)
    assert entry is not None, "resolve knows only versions with a verdict"
    return weights_folder(name, version, entry.weights_digest), entry.weights_digest


def _require_base(folder: Path, base: str, label: str) -> None:
    if not is_adapter(folder) or (trained := read_json(folder / ADAPTER).get("base_model_name_or_path")) == base:
        return
    fix = f"Set base.model: {trained}, or explain another version"
    raise BaseModelError(f"{label} is an adapter of {trained}, not of {base}", where="base.model", fix=fix)


def _templates(folder: Path) -> dict[str, FamilyTemplates]:
    """The instruction templates that the model was trained with; for other families those of the project."""
    path = folder / TEMPLATES.name
    own = read_json(path)["families"] if path.is_file() else {}
    return read_templates() | {family: parse_family(family, document) for family, document in own.items()}
