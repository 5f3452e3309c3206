"""Checks that a base has an embedding for each token of its tokenizer, from its files, without loading either."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tasks.errors import BaseModelError
from tasks.runtime.files import read_object

_EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|token_embedding|shared)\.weight"
)
"""Names of the token embedding in models."""


def require_embeddings(folder: Path, base: str | None = None, tokens: int | None = None) -> None:
    """Raises BaseModelError where the tokenizer has tokens without an embedding.

    Args:
        base: its name in messages; default: the folder.
        tokens: size of the vocabulary, if the tokenizer is loaded already.
    """
    tokens = tokens_in(folder) if tokens is None else tokens
    embeddings = embeddings_in(folder)
    if tokens is None or embeddings is None or tokens <= embeddings:
        return
    raise BaseModelError(
        f"its tokenizer has {tokens:,} tokens, its embeddings {embeddings:,}: some tokens have no embedding",
        where=base or str(folder),
        fix="Add the missing embeddings (model.resize_token_embeddings, then save_pretrained), or set base.model",
    )


def tokens_in(folder: Path) -> int | None:
    """Number of tokens in the tokenizer files: the highest id + 1; None without a tokenizer.json."""
    tokenizer = read_object(folder / "tokenizer.json")
    if not tokenizer:
        return None
    model = tokenizer.get("model") or {}
    vocabulary = model.get("vocab") or {}
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    ids += [token["id"] for token in tokenizer.get("added_tokens") or []]
    configuration = read_object(folder / "tokenizer_config.json")
    ids += [int(number) for number in configuration.get("added_tokens_decoder") or {}]
    ids += read_object(folder / "added_tokens.json").values()
    return max(ids, default=-1) + 1


def embeddings_in(folder: Path) -> int | None:
    """Number of token embeddings, from the weights, else from the configuration; None if neither has it."""
    for path in sorted(folder.glob("*.safetensors")):
        rows = [shape[0] for name, shape in shapes_in(path) if _EMBEDDINGS.search(name)]
        if rows:
            return min(rows)
    configuration = read_object(folder / "config.json")
    text = configuration.get("text_config")
    size = configuration.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    return size if isinstance(size, int) else None


def shapes_in(path: Path) -> Iterable[tuple[str, list[int]]]:
    """Names and shapes of the tensors in a file, from its header."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except (OSError, ValueError, MemoryError, OverflowError):  # reported where the weights are loaded
        return []
    return [(name, tensor["shape"]) for name, tensor in header.items() if name != "__metadata__" and tensor["shape"]]
