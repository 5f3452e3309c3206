"""A base from scratch (`base.model: scratch`): a new tokenizer, and a model of a given size with random weights.

The same rows and settings give the same bytes: numpy draws the weights, one parameter at a time, not the model's own code. So the
base need not be stored: data/base.json records its origin, and it is created again where it is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.scratch_corpus import read_texts
from tasks.base.settings import ScratchSettings
from tasks.errors import BaseModelError
from tasks.runtime.files import write_json
from tasks.state.manifest import read_manifest

SIZES = {
    "nano": (3, 96, 3),
    "tiny": (4, 256, 4),
    "mini": (8, 512, 8),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
    "large": (36, 1280, 20),
    "xl": (48, 1600, 25),
}
"""Layers, width, heads. `small` to `xl`: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019)."""

END, PAD = "<|endoftext|>", "<|pad|>"
WEIGHT_STD = 0.02
MIN_FREQUENCY = 2
"""Minimum frequency of a pair to become a token."""
MAX_TOKEN_BYTES = 24
"""Maximum length of a token. Chinese has no spaces: without a limit, a repeated sentence would become one readable token."""


def origin_of(settings: ScratchSettings) -> dict[str, Any]:
    """The inputs of the base: the settings, the current batches, and the versions of the libraries.

    Raises:
        BaseModelError: no batch is ingested yet.
    """
    batches = [batch.batch for batch in read_manifest()]
    if not batches:
        what = "the tokenizer of a model from scratch is trained on the ingested rows, and there are none"
        raise BaseModelError(what, where="base.model: scratch", fix="Ingest some: python -m tasks ingest")
    return {"settings": settings.model_dump(), "batches": batches, "made_with": _versions()}


def create_base(origin: dict[str, Any], folder: Path) -> None:
    """Writes the base described by `origin` as a Hugging Face folder.

    Raises:
        BaseModelError: a batch is missing, or no batch has text.
    """
    settings = ScratchSettings(**origin["settings"])
    batches = {batch.batch: batch for batch in read_manifest()}
    if missing := [batch for batch in origin["batches"] if batch not in batches]:
        what = f"its tokenizer was trained on batch {missing[0]}, which is not in {paths.MANIFEST}"
        raise BaseModelError(what, where="base.model: scratch", fix="Restore it: dvc checkout data/raw.dvc")
    texts = read_texts([batches[batch] for batch in origin["batches"]], settings.tokenizer_megabytes)
    tokenizer = _trained_tokenizer(texts, settings)
    _write_model(tokenizer, settings, folder)
    tokenizer.save_pretrained(folder)


def explain_difference(origin: dict[str, Any]) -> str:
    """Why the bytes may differ from the pinned ones."""
    pinned, current = origin["made_with"], _versions()
    changed = [name for name in current if pinned.get(name) != current[name]]
    if changed:
        versions = ", ".join(f"{name} {pinned.get(name)}, here {current[name]}" for name in changed)
        return f"it was created with {versions}"
    return "rows of its batches have been erased or changed since, or the code has changed"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "tokenizers", "transformers")}


def _trained_tokenizer(texts: Iterator[str], settings: ScratchSettings) -> Any:
    """Byte-level BPE: it encodes any text, and no token is longer than MAX_TOKEN_BYTES."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    first = next(texts, None)
    if first is None:
        what = "the ingested rows have no text, so no tokenizer can be trained"
        raise BaseModelError(what, where="base.model: scratch", fix="Add a source with `use: train`")

    def all_texts() -> Iterator[str]:
        yield first
        yield from texts

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=MAX_TOKEN_BYTES,  # in bytes, as each byte is a character of the alphabet
        show_progress=False,
    )
    tokenizer.train_from_iterator(all_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD, model_max_length=settings.context
    )


def _write_model(tokenizer: Any, settings: ScratchSettings, folder: Path) -> None:
    import numpy as np
    import torch
    from safetensors.numpy import save_file
    from transformers import AutoModelForCausalLM

    config = _configuration(tokenizer, settings)
    with torch.device("meta"):  # shapes only
        model = AutoModelForCausalLM.from_config(config)
    layers = SIZES[settings.size][0]
    weights: dict[str, Any] = {}
    for number, (name, shape) in enumerate((name, tuple(value.shape)) for name, value in model.named_parameters()):
        if len(shape) == 1:
            weights[name] = np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
            continue
        # weights that add to the residual stream have a smaller deviation, as in GPT-2
        is_residual = name.endswith(("c_proj.weight", "o_proj.weight", "down_proj.weight"))
        std = WEIGHT_STD / (2 * layers) ** 0.5 if is_residual else WEIGHT_STD
        random = np.random.default_rng([settings.seed, number])
        weights[name] = random.standard_normal(shape, np.float32) * np.float32(std)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    entry = config.to_diff_dict() | {"architectures": [type(model).__name__], "dtype": "float32"}
    entry.pop("transformers_version", None)
    write_json(folder / "config.json", entry)


def _configuration(tokenizer: Any, settings: ScratchSettings) -> Any:
    from transformers import GPT2Config, LlamaConfig

    layers, width, heads = SIZES[settings.size]
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    shared = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": True, **ids}
    if settings.architecture == "gpt2":
        return GPT2Config(n_layer=layers, n_embd=width, n_head=heads, n_positions=settings.context, **shared)
    return LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=-(-width * 8 // 3 // 64) * 64,
        max_position_embeddings=settings.context,
        **shared,
    )
