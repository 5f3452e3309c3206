"""Whether a base's embeddings hold all of its tokenizer's tokens; read from its files, without loading either."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.errors import BaseModelError
from tasks.runtime.files import read_json

_EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|token_embedding|shared)\.weight"
)
"""What models call the tensor that holds a row a token."""


def require_embeddings(folder: Path, base: str | None = None, tokens: int | None = None) -> None:
    """Raises BaseModelError where a text may hold a token that the model in `folder` has no embedding of.

    Args:
        base: its name in messages; the folder if it has no other.
        tokens: how many the tokenizer has, where it is loaded already.
    """
    tokens = tokens_in(folder) if tokens is None else tokens
    embeddings = embeddings_in(folder)
    if tokens is None or embeddings is None or tokens <= embeddings:
        return
    raise BaseModelError(
        f"its tokenizer has {tokens:,} tokens, its embeddings {embeddings:,}: a text may hold a token that the model cannot read",
        where=base or str(folder),
        fix="Give it embeddings for all of them (model.resize_token_embeddings, then save_pretrained), or set base.model",
    )


def tokens_in(folder: Path) -> int | None:
    """How many tokens the tokenizer files name, the highest id counting; None where there is no tokenizer.json."""
    told = _json_of(folder / "tokenizer.json")
    if told is None:
        return None
    model = told.get("model") or {}
    vocabulary = model.get("vocab") or {}
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    ids += [token["id"] for token in told.get("added_tokens") or []]
    configuration = _json_of(folder / "tokenizer_config.json") or {}
    ids += [int(number) for number in configuration.get("added_tokens_decoder") or {}]
    ids += (_json_of(folder / "added_tokens.json") or {}).values()
    return max(ids, default=-1) + 1


def embeddings_in(folder: Path) -> int | None:
    """How many tokens the model has embeddings of: by its weights, else by its configuration; None where neither says."""
    for path in sorted(folder.glob("*.safetensors")):
        rows = [shape[0] for name, shape in _shapes_in(path) if _EMBEDDINGS.search(name)]
        if rows:
            return min(rows)
    configuration = _json_of(folder / "config.json") or {}
    text = configuration.get("text_config")
    size = configuration.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    return size if isinstance(size, int) else None


def _shapes_in(path: Path) -> Iterable[tuple[str, list[int]]]:
    """Names and shapes of the tensors in a file, by its header."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except (OSError, ValueError, MemoryError, OverflowError):  # reported where the weights are loaded
        return []
    return [(name, tensor["shape"]) for name, tensor in header.items() if name != "__metadata__" and tensor["shape"]]


def _json_of(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
