"""A version for an engine outside of this process: its folder and what is known of it, without its weights in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import ConfigError
from tasks.runtime.files import content_digest, file_digest, files_below, read_object
from tasks.serve.engine.engine_settings import EngineSettings

TEMPLATES = "templates.json"
WEIGHTS, FILES = 12, 8
"""Characters of both digests in a name."""
FIX = "Serve it by the embedded engine: serve.engine.kind: embedded"


@dataclass(frozen=True)
class RemoteVersion:
    """
    Args:
        model: the registered model.
        folder: `.strop/models/<digest>`.
        base_folder: of the base of an adapter.
        precision: of its evaluation, `bf16` or `fp32`.
        max_new_tokens: most tokens of an answer to a task, as in its evaluation.
    """

    model: str
    number: int
    weights: str
    folder: Path
    base_folder: Path
    precision: str
    max_new_tokens: int

    @property
    def is_adapter(self) -> bool:
        return (self.folder / "adapter_config.json").is_file()

    @cached_property
    def files(self) -> str:
        """The digest of its files beside the weights: configuration, tokenizer, templates."""
        others = {name: path for name, path in files_below(self.folder).items() if path.suffix != ".safetensors"}
        return content_digest({name: file_digest(path) for name, path in others.items()})

    @property
    def name(self) -> str:
        """Its name in the server, which no other weights ever have: a server may cache what it computed for a name."""
        return f"{self.model}@v{self.number}+{self.weights[:WEIGHTS]}{self.files[:FILES]}"

    def has_same_weights(self, name: str) -> bool:
        """Whether a name in the server is that of a version with the same weights."""
        return name.rpartition("+")[2][:WEIGHTS] == self.weights[:WEIGHTS]

    @property
    def model_folder(self) -> Path:
        """The folder of the model that a command serves."""
        return self.base_folder if self.is_adapter else self.folder

    def path_in(self, settings: EngineSettings) -> str:
        """Its folder as the server sees it."""
        if settings.models_folder is None:
            return str(self.folder.resolve())
        return f"{settings.models_folder.rstrip('/')}/{self.folder.resolve().relative_to(paths.MODELS.resolve())}"


@dataclass(frozen=True)
class Decoding:
    """What the version's configuration decides about its answers."""

    ends: frozenset[int]
    context: int | None
    repetition_penalty: float
    templates: Mapping[str, Any]


def decoding_of(version: RemoteVersion, tokenizer: Any) -> Decoding:
    """Raises ConfigError where a server cannot decode as in the evaluation."""
    from types import SimpleNamespace

    from transformers import AutoConfig, GenerationConfig

    from tasks.base.generation import end_token_ids
    from tasks.base.heads import context_length_of
    from tasks.inference.support import score_setting

    _require_servable(version)
    config = AutoConfig.from_pretrained(version.model_folder)
    has_file = (version.model_folder / "generation_config.json").is_file()
    generation = (
        GenerationConfig.from_pretrained(version.model_folder)
        if has_file
        else GenerationConfig.from_model_config(config)
    )
    described: Any = SimpleNamespace(generation_config=generation)
    if setting := score_setting(described):
        raise ConfigError(f"its generation config sets {setting}", where=version.name, fix=FIX)
    templates = version.folder / TEMPLATES
    return Decoding(
        frozenset(end_token_ids(described, tokenizer)),
        context_length_of(config.get_text_config()),
        float(generation.repetition_penalty or 1.0),
        read_object(templates) if templates.is_file() else {},
    )


def _require_servable(version: RemoteVersion) -> None:
    from tasks.base.model_kind import LABELS

    if (version.folder / LABELS).is_file():
        raise ConfigError("it has a head, and generates no text", where=version.name, fix=FIX)
    if not version.is_adapter:
        return
    adapter = read_object(version.folder / "adapter_config.json")
    if adapter.get("peft_type") != "LORA":
        raise ConfigError(f"its adapter is {adapter.get('peft_type')}; servers load LoRA", where=version.name, fix=FIX)
    if adapter.get("modules_to_save") or adapter.get("use_dora"):
        what = "its adapter has whole modules or DoRA, which servers do not load"
        raise ConfigError(what, where=version.name, fix=FIX)
