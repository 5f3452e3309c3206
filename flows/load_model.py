"""Loads a model for use on this machine: the champion, the challenger, the base, or a version. For `strop generate` and `chat`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.config import PipelineConfig
from tasks.errors import RegistryError
from tasks.model_store.ledger import Entry, champion_of, judgement_of, read_ledger

EVALUATED_TOKENS = 64
"""Most tokens of an evaluated answer, if neither receipt nor settings have them."""


@dataclass(frozen=True)
class LoadedModel:
    name: str
    """Such as `champion, version 2`."""
    model: Any
    tokenizer: Any
    labels: tuple[str, ...] | None = None
    """Its labels, if it is a classifier."""
    thinks: bool = False
    """Whether it was trained on answers with thinking."""
    version: int | None = None
    """None: the base."""
    templates: Mapping[str, Any] = field(default_factory=dict)
    """Its templates.json: the families, and how their rows were rendered."""
    max_new_tokens: int = EVALUATED_TOKENS
    """Most tokens of an answer in its evaluation."""


def choose_version(entries: list[Entry], to: str) -> Entry | None:
    """The entry of the version given by `to`; None for the base.

    Raises:
        RegistryError: there is no such version.
    """
    if to == "base":
        return None
    newest = next((entry for entry in reversed(entries) if entry.kind == "judged"), None)
    entry = {"champion": champion_of(entries), "challenger": newest}.get(to)
    if entry is None and to.removeprefix("v").isdecimal():
        entry = judgement_of(entries, int(to.removeprefix("v")))
    if entry is None:
        versions = ", ".join(str(entry.version) for entry in entries if entry.kind == "judged") or "none yet"
        fix = f"Use champion, challenger, base or a version ({versions})"
        raise RegistryError("no such model", where=f"--to {to}", fix=fix)
    return entry


def load_model(config: PipelineConfig, to: str, must_generate: bool = True, may_score: bool = False) -> LoadedModel:
    """Loads the model in the precision of its evaluation; fetches its weights by its tag if they are not on this disk.

    Args:
        must_generate: False also accepts a classifier.
        may_score: True also accepts a reward model.

    Raises:
        RegistryError: there is no such version, or it cannot generate text.
        SigningError: `signing.require` names `serving`, and a signature of the version is missing or invalid.
    """
    from tasks.base.heads import REWARD
    from tasks.base.load import labels_of, load_tokenizer, load_trained
    from tasks.base.pin import pin_base
    from tasks.base.precision import judged_precision
    from tasks.dataset.rendered import TEMPLATES
    from tasks.model_store.signatures import require_servable
    from tasks.model_store.versions import version_receipt, weights_folder
    from tasks.runtime.files import read_object
    from tasks.runtime.logs.libraries import set_library_level
    from tasks.runtime.threads import Threads

    set_library_level("transformers")
    model_name = config.register_.model_name
    entry = choose_version(read_ledger(model_name), to)
    threads = Threads("generate", is_quiet=True)
    if entry is None:
        loaded = _load_base(config, to)
        threads.follow(loaded.model)
        return loaded
    require_servable(config, entry.version)
    record = pin_base(config.base)
    folder = weights_folder(model_name, entry.version, entry.weights_digest)
    name = f"{to}, version {entry.version}" if to in ("champion", "challenger") else f"version {entry.version}"
    labels = labels_of(folder)
    _require_kind(labels, name, to, must_generate, may_score)
    receipt = version_receipt(model_name, entry.version) or {}
    tokenizer = load_tokenizer(folder, generates=labels in (None, REWARD))
    judged = (receipt.get("metrics") or {}).get("precision")
    model = load_trained(folder, record, judged_precision(judged, "generate", config.evaluate.precision))
    threads.follow(model)
    templates = read_object(folder / TEMPLATES.name)
    limit = ((receipt.get("params") or {}).get("evaluate") or {}).get("max_new_tokens", config.evaluate.max_new_tokens)
    thinks = bool(templates.get("thinking"))
    return LoadedModel(name, model, tokenizer, labels, thinks, entry.version, templates, limit)


def _load_base(config: PipelineConfig, to: str) -> LoadedModel:
    """The base, with the templates of the project."""
    from tasks.base.convert import base_folder
    from tasks.base.load import load_base, load_tokenizer
    from tasks.base.pin import pin_base
    from tasks.base.precision import precision_of
    from tasks.prompts.templates.templates import read_templates

    if config.finetune.spec.head == "labels":
        fix = "Use a version: --to NUMBER"
        raise RegistryError("the base has no classification head yet", where=f"--to {to}", fix=fix)
    record = pin_base(config.base)
    families = {name: templates.as_dict() for name, templates in read_templates().items()}
    templates = {"families": families, "max_length_tokens": config.render.max_length_tokens}
    return LoadedModel(
        "base",
        load_base(record, precision_of(config.evaluate.precision)),
        load_tokenizer(base_folder(record), config.base.chat_template),
        templates=templates,
        max_new_tokens=config.evaluate.max_new_tokens,
    )


def _require_kind(labels: tuple[str, ...] | None, name: str, to: str, must_generate: bool, may_score: bool) -> None:
    """Raises RegistryError for a model with a head that the command cannot use."""
    from tasks.base.heads import REWARD

    if labels == REWARD and not may_score:
        fix = "Score an answer: strop generate --family FAMILY --field text=… --field output=…"
        raise RegistryError(f"{name} is a reward model: it does not generate text", where=f"--to {to}", fix=fix)
    if labels not in (None, REWARD) and must_generate:
        what = f"{name} is a classifier ({', '.join(labels or ())}): it does not generate text"
        raise RegistryError(what, where=f"--to {to}", fix='Classify a text: strop generate "…"')
