"""Inputs and logits of models with a classification or reward head; shared by training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks import paths
from tasks.base.convert import DIGESTS, base_folder
from tasks.base.foreign import trusts
from tasks.base.model_kind import REWARD as REWARD
from tasks.base.pin import BaseRecord
from tasks.chat.markers import plain_ids
from tasks.runtime.files import content_digest, link_or_copy

PROBE = "a"


def text_ids(tokenizer: Any, texts: Sequence[str], max_length_tokens: int) -> list[tuple[list[int], bool]]:
    """The tokens of each text, and whether it was truncated. A control token typed by a user is encoded as plain text.

    The text is enclosed in the special tokens that the tokenizer itself adds, as in an encoder's pre-training ([CLS] ... [SEP]);
    where it adds none at the end, as a decoder's does, the end token is appended.
    """
    before, after = _added_tokens(tokenizer)
    if not after and tokenizer.eos_token_id is not None:
        after = [tokenizer.eos_token_id]
    room = min(max_length_tokens, tokenizer.model_max_length) - len(before) - len(after)
    if not texts:
        return []
    encoded = plain_ids(tokenizer, texts)
    return [([*before, *ids[:room], *after], len(ids) > room) for ids in encoded]


def begin_ids(tokenizer: Any) -> list[int]:
    """The tokens that the tokenizer adds before a text: the begin token of Llama, Gemma and Mistral, or none."""
    return _added_tokens(tokenizer)[0]


def append_end_token(tokenizer: Any) -> None:
    """Makes a tokenizer append the end token as `text_ids` does, for other users of it; unless it adds one already."""
    from tokenizers.processors import Sequence as InTurn
    from tokenizers.processors import TemplateProcessing

    fast, end = getattr(tokenizer, "backend_tokenizer", None), tokenizer.eos_token
    if fast is None or end is None or _added_tokens(tokenizer)[1]:
        return
    ending = TemplateProcessing(
        single=f"$A {end}", pair=f"$A $B:1 {end}:1", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    fast.post_processor = InTurn([fast.post_processor, ending]) if fast.post_processor else ending


def _added_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer adds itself, before and after a text."""
    inner = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    enclosed = tokenizer(PROBE)["input_ids"]
    first = next(i for i in range(len(enclosed)) if enclosed[i : i + len(inner)] == inner)
    return enclosed[:first], enclosed[first + len(inner) :]


def padded(sequences: Sequence[Any], model: Any) -> dict[str, torch.Tensor]:
    """A batch, padded on the right with the model's own padding token: decoders use the last token before the padding.

    Returns:
        input_ids, attention_mask: int64 [sequences, longest].
    """
    width = max(len(ids) for ids in sequences)
    ids = torch.full((len(sequences), width), model.config.pad_token_id or 0)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = torch.from_numpy(np.asarray(tokens, np.int64))
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def head_logits(
    model: Any, sequences: Sequence[Any], batch_rows: int, on_batch: Callable[[int], None] | None = None
) -> list[list[float]]:
    """The head's logits of each token sequence, one per label. `on_batch` is called with the number of rows of each batch."""
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
    logits_of: list[list[float]] = [[]] * len(sequences)
    for start in range(0, len(order), batch_rows):
        batch_indices = order[start : start + batch_rows]
        batch = padded([sequences[i] for i in batch_indices], model)
        with torch.inference_mode():
            logits = model(**{name: values.to(model.device) for name, values in batch.items()}).logits
        for i, values in zip(batch_indices, logits.float().tolist(), strict=True):
            logits_of[i] = values
        if on_batch is not None:
            on_batch(len(batch_indices))
    return logits_of


def set_labels(config: Any, labels: Sequence[str]) -> None:
    """Sets the labels of the head and the padding token in a model's configuration."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    if config.pad_token_id is None:  # decoders use the last token before the padding
        end = config.eos_token_id
        config.pad_token_id = end[0] if isinstance(end, list) else end


def labelled_base(record: BaseRecord, labels: tuple[str, ...]) -> Path:
    """A folder of the base with these labels in its configuration, so that it loads with a head that fits the adapter."""
    from transformers import AutoConfig

    source = base_folder(record)
    folder = paths.BASES / f"labels-{content_digest([record.digest, labels])[:16]}"
    if not (folder / "config.json").is_file():
        for file in source.iterdir():
            if file.is_file() and file.name not in ("config.json", DIGESTS):
                link_or_copy(file.resolve(), folder / file.name)
        config = AutoConfig.from_pretrained(source, trust_remote_code=trusts(source))
        set_labels(config, labels)
        config.save_pretrained(folder)
    return folder


def context_length_of(config: Any) -> int | None:
    """The context length of a model; None if its configuration has none."""
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa and related models number positions from after the padding token
    starts_after_padding = "roberta" in config.model_type or config.model_type in ("camembert", "longformer")
    if positions is None or not starts_after_padding:
        return positions
    return int(positions) - int(config.pad_token_id or 0) - 1


def max_input_tokens(model: Any) -> int | None:
    """The model's maximum number of text tokens; None if its configuration has no limit."""
    positions = context_length_of(model.config)
    return None if positions is None else positions - virtual_tokens(model)


def virtual_tokens(model: Any) -> int:
    """The number of positions that a learned prompt or prefix takes before the text."""
    return int(model.active_peft_config.num_virtual_tokens) if is_prompted(model) else 0


def is_prompted(model: Any) -> bool:
    return hasattr(model, "get_base_model") and bool(model.active_peft_config.is_prompt_learning)
