"""Semantic similarity of answers and targets by a sentence encoder: the cosine of their embeddings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.base.digests import cached_digests
from tasks.base.files import locate_files, newest_revision
from tasks.base.settings import is_folder
from tasks.errors import BaseModelError, ConfigError
from tasks.evaluate.predictions import Row
from tasks.runtime.files import content_digest, read_json
from tasks.runtime.run_origin import written_path
from tasks.scoring.metrics import METRICS
from tasks.scoring.thoughts import without_thought

logger = logging.getLogger(__name__)

SETTING = "evaluate.encoder"
FIX = "Set it to the folder of a sentence encoder, or connect to the network once for a hub id"
POOLING, MAX_LENGTH = "1_Pooling/config.json", "sentence_bert_config.json"
"""Files of sentence-transformers: how token embeddings are combined, and the longest text in tokens."""
LONGEST = 512
"""The longest text in tokens, if the encoder's files do not state it."""


@dataclass(frozen=True)
class EncoderFiles:
    name: str
    """As set in params.yaml."""
    folder: Path
    revision: str | None
    """The commit of a hub id."""
    digest: str
    """sha256 over names and bytes of its files."""
    is_mean: bool
    """A text's embedding is the mean of its tokens'; else that of its first token."""

    def entry(self) -> dict[str, Any]:
        """The entry in metrics.json."""
        return {"name": self.name, "revision": self.revision, "digest": self.digest}


def find_encoder(name: str) -> EncoderFiles:
    """The files of an encoder; those of a hub id are downloaded if they are missing.

    Raises:
        ConfigError: there is no such model, it needs code of its own, or its token embeddings are combined in another way.
    """
    revision = require_encoder(name)
    try:
        files = locate_files(name, "folder" if _is_folder(name) else "hub", revision)
    except BaseModelError as error:
        raise ConfigError(f"{name} {error.what}", where=SETTING, fix=FIX) from error
    folder = files["config.json"].parent
    if (folder / POOLING).is_file():
        files[POOLING] = folder / POOLING
    return EncoderFiles(name, folder, revision, content_digest(cached_digests(files)), _is_mean(folder, name))


def require_encoder(name: str) -> str | None:
    """The commit of a hub id, None for a folder; nothing is downloaded.

    Raises:
        ConfigError: there is no such model.
    """
    if _is_folder(name):
        if not (written_path(name) / "config.json").is_file():
            raise ConfigError(f"{name} is no folder of a model", where=SETTING, fix=FIX)
        return None
    try:
        return newest_revision(name, None)
    except BaseModelError as error:
        raise ConfigError(f"{name}: {error.what}", where=SETTING, fix=FIX) from error


def _is_folder(name: str) -> bool:
    return is_folder(name) or written_path(name).is_dir()


def _is_mean(folder: Path, name: str) -> bool:
    try:
        pooling = read_json(folder / POOLING)
    except FileNotFoundError:
        return True
    modes = {mode for mode, is_used in pooling.items() if mode.startswith("pooling_mode_") and is_used}
    if modes not in ({"pooling_mode_mean_tokens"}, {"pooling_mode_cls_token"}):
        what = f"its token embeddings are combined by {', '.join(sorted(modes)) or 'nothing'}"
        raise ConfigError(f"{name}: {what}", where=SETTING, fix="Choose an encoder with mean or cls pooling")
    return modes == {"pooling_mode_mean_tokens"}


def with_similarity(predictions: dict[str, list[Row]], encoder: EncoderFiles, batch_rows: int) -> dict[str, list[Row]]:
    """The predictions of each role, with `similarity` of the answers that are compared as text. An empty answer has 0."""
    texts = dict.fromkeys(text for rows in predictions.values() for row in rows for text in _pair(row) or () if text)
    if not texts:
        return predictions
    logger.info(f"evaluate: semantic similarity by {encoder.name} ({encoder.digest[:12]}), {len(texts):,} texts")
    vector_of = dict(zip(texts, embed(list(texts), encoder, batch_rows), strict=True))

    def similarity(row: Row) -> float | None:
        if (pair := _pair(row)) is None:
            return None
        answer, target = pair
        return float(vector_of[answer] @ vector_of[target]) if answer and target else 0.0

    return {role: [row | {"similarity": similarity(row)} for row in rows] for role, rows in predictions.items()}


def _pair(row: Row) -> tuple[str, str] | None:
    """Answer and target; None unless they are compared as text."""
    if not METRICS[row["kind"]].zero_if_degenerate:
        return None
    return row["read"].strip(), without_thought(row["target"]).strip()


def embed(texts: Sequence[str], encoder: EncoderFiles, batch_rows: int) -> NDArray[np.float64]:
    """The embeddings of the texts, of length 1. Longer texts are truncated to what the encoder accepts.

    Returns:
        float64 [texts, width].
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
    model = AutoModel.from_pretrained(encoder.folder, dtype=torch.float32, use_safetensors=True).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    order = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), index))
    vectors = np.zeros((len(texts), model.config.hidden_size))
    for start in range(0, len(order), batch_rows):
        indices = order[start : start + batch_rows]
        batch = tokenizer(
            [texts[index] for index in indices],
            padding=True,
            truncation=True,
            max_length=_longest(encoder.folder, tokenizer, model),
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state.double()
        mask = batch["attention_mask"].unsqueeze(-1).double()
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1) if encoder.is_mean else hidden[:, 0]
        vectors[indices] = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
    return vectors


def _longest(folder: Path, tokenizer: Any, model: Any) -> int:
    """The longest text in tokens."""
    try:
        stated = read_json(folder / MAX_LENGTH).get("max_seq_length")
    except FileNotFoundError:
        stated = None
    positions = getattr(model.config, "max_position_embeddings", None) or LONGEST
    return int(min(stated or LONGEST, tokenizer.model_max_length, positions))
