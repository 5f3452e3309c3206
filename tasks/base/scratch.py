"""A base from scratch (`base.model: scratch`): a new tokenizer, and a model of a given size with random weights.

The same rows and settings give the same bytes: the weights are drawn by numpy, a parameter at a time, and not by the model's own
code. So the base need not be kept: data/base.json says what it was made from, and it is made again where it is not there.
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
LEAST_REPEATS = 2
"""A pair that occurs less often becomes no token."""
TOKEN_BYTES = 24
"""Longest token. Chinese has no spaces: without a bound, a sentence that occurs twice would be a token, whole and legible."""


def origin_of(settings: ScratchSettings) -> dict[str, Any]:
    """What the base is made from: the settings, the batches that there are, and the versions of what makes it.

    Raises:
        BaseModelError: nothing was ingested yet.
    """
    batches = [batch.batch for batch in read_manifest()]
    if not batches:
        what = "the tokenizer of a model from scratch is trained on the rows that came in, and none have"
        raise BaseModelError(what, where="base.model: scratch", fix="Ingest some: python -m tasks ingest")
    return {"settings": settings.model_dump(), "batches": batches, "made_with": _versions()}


def make(origin: dict[str, Any], folder: Path) -> None:
    """Writes the base that `origin` tells of, as a Hugging Face folder.

    Raises:
        BaseModelError: a batch is not there, or there is no text in any.
    """
    settings = ScratchSettings(**origin["settings"])
    known = {batch.batch: batch for batch in read_manifest()}
    if missing := [batch for batch in origin["batches"] if batch not in known]:
        what = f"its tokenizer was trained on batch {missing[0]}, which is not in {paths.MANIFEST}"
        raise BaseModelError(what, where="base.model: scratch", fix="Bring it back: dvc checkout data/raw.dvc")
    texts = read_texts([known[batch] for batch in origin["batches"]], settings.tokenizer_megabytes)
    tokenizer = _trained_tokenizer(texts, settings)
    _write_model(tokenizer, settings, folder)
    tokenizer.save_pretrained(folder)


def why_others(origin: dict[str, Any]) -> str:
    """Why the bytes may be others than those that were pinned."""
    then, now = origin["made_with"], _versions()
    if others := [f"{name} {then.get(name)}, here {now[name]}" for name in now if then.get(name) != now[name]]:
        return f"it was made with {', '.join(others)}"
    return "rows of its batches have been erased or changed since, or this code is another"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "tokenizers", "transformers")}


def _trained_tokenizer(texts: Iterator[str], settings: ScratchSettings) -> Any:
    """Byte-level BPE: no text of any language is unknown to it, and none is longer than TOKEN_BYTES as a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    first = next(texts, None)
    if first is None:
        what = "there is no text in the rows that came in, so no tokenizer can be trained"
        raise BaseModelError(what, where="base.model: scratch", fix="Add a source with `use: train`")

    def all_texts() -> Iterator[str]:
        yield first
        yield from texts

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=LEAST_REPEATS,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=TOKEN_BYTES,  # in bytes, as each is a character of the alphabet
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
    with torch.device("meta"):  # shapes alone
        model = AutoModelForCausalLM.from_config(config)
    layers = SIZES[settings.size][0]
    weights: dict[str, Any] = {}
    for number, (name, shape) in enumerate((name, tuple(value.shape)) for name, value in model.named_parameters()):
        if len(shape) == 1:
            weights[name] = np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
            continue
        # what is added to the residual stream twice a layer is drawn narrower, as GPT-2's is
        adds = name.endswith(("c_proj.weight", "o_proj.weight", "down_proj.weight"))
        std = WEIGHT_STD / (2 * layers) ** 0.5 if adds else WEIGHT_STD
        random = np.random.default_rng([settings.seed, number])
        weights[name] = random.standard_normal(shape, np.float32) * np.float32(std)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    told = config.to_diff_dict() | {"architectures": [type(model).__name__], "dtype": "float32"}
    told.pop("transformers_version", None)
    write_json(folder / "config.json", told)


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
