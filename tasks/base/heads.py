"""A text as a model with a head of labels reads it, and what the head says of it: one way for training, judging and use."""

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
    """The tokens of each text, and whether its end was cut off. A control token that somebody typed is text.

    They stand between the special tokens that the tokenizer itself writes around a text, as an encoder was pre-trained to read
    it ([CLS] ... [SEP]); where it writes none at the end, as a decoder's, the end token stands there.
    """
    before, after = _around(tokenizer)
    room = min(max_length_tokens, tokenizer.model_max_length) - len(before) - len(after)
    if not texts:
        return []
    encoded = plain_ids(tokenizer, texts)
    return [([*before, *ids[:room], *after], len(ids) > room) for ids in encoded]


def begin_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer begins a text with: the begin token of Llama, Gemma and Mistral, or nothing."""
    return _marks(tokenizer)[0]


def end_texts(tokenizer: Any) -> None:
    """Lets a tokenizer write what `text_ids` writes also where others use it: an end token behind a text, if it ends it by none."""
    from tokenizers.processors import Sequence as InTurn
    from tokenizers.processors import TemplateProcessing

    fast, end = getattr(tokenizer, "backend_tokenizer", None), tokenizer.eos_token
    if fast is None or end is None or _marks(tokenizer)[1]:
        return
    ending = TemplateProcessing(
        single=f"$A {end}", pair=f"$A $B:1 {end}:1", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    fast.post_processor = InTurn([fast.post_processor, ending]) if fast.post_processor else ending


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    before, after = _marks(tokenizer)
    if not after and tokenizer.eos_token_id is not None:
        after = [tokenizer.eos_token_id]
    return before, after


def _marks(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Those that the tokenizer writes itself."""
    inner = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    whole = tokenizer(PROBE)["input_ids"]
    first = next(place for place in range(len(whole)) if whole[place : place + len(inner)] == inner)
    return whole[:first], whole[first + len(inner) :]


def padded(sequences: Sequence[Any], model: Any) -> dict[str, torch.Tensor]:
    """A batch, padded on the right with what the model itself takes for padding: decoders look for the last token before it.

    Returns:
        input_ids, attention_mask: int64 [sequences, longest].
    """
    width = max(len(ids) for ids in sequences)
    ids = torch.full((len(sequences), width), model.config.pad_token_id or 0)
    mask = torch.zeros_like(ids)
    for place, tokens in enumerate(sequences):
        ids[place, : len(tokens)] = torch.from_numpy(np.asarray(tokens, np.int64))
        mask[place, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def head_logits(
    model: Any, sequences: Sequence[Any], batch_rows: int, on_batch: Callable[[int], None] | None = None
) -> list[list[float]]:
    """What the head says of each sequence of tokens: a number a label. `on_batch` hears the number of rows of each batch done."""
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
    found: list[list[float]] = [[]] * len(sequences)
    for start in range(0, len(order), batch_rows):
        chosen = order[start : start + batch_rows]
        batch = padded([sequences[i] for i in chosen], model)
        with torch.inference_mode():
            logits = model(**{name: values.to(model.device) for name, values in batch.items()}).logits
        for i, values in zip(chosen, logits.float().tolist(), strict=True):
            found[i] = values
        if on_batch is not None:
            on_batch(len(chosen))
    return found


def set_labels(config: Any, labels: Sequence[str]) -> None:
    """Lets a model's configuration say which labels its head tells apart, and what pads a text."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: place for place, label in enumerate(labels)}
    if config.pad_token_id is None:  # decoders look for the last token before the padding
        end = config.eos_token_id
        config.pad_token_id = end[0] if isinstance(end, list) else end


def labelled_base(record: BaseRecord, labels: tuple[str, ...]) -> Path:
    """The base in a folder whose configuration says these labels, so that others load it with a head that an adapter's fits."""
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


def positions_of(config: Any) -> int | None:
    """The most tokens that a model can read at once; None where it does not say."""
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa and its kin begin to count after the padding token
    counts_after_padding = "roberta" in config.model_type or config.model_type in ("camembert", "longformer")
    if positions is None or not counts_after_padding:
        return positions
    return int(positions) - int(config.pad_token_id or 0) - 1
