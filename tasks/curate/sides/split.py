"""The split of a row on its own, and the texts and keys by which it is compared. Pure: they depend on the row's content alone.

The split is a hash of the input, not of the answer, so that all answers to one prompt are in one split; and of its joined text, so
that a prompt is in the same split whatever the shape of its source.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from typing import Any

from tasks.records.row import MORE_FIELDS, in_canonical_spelling
from tasks.records.segmentation import normalise

_MARKS = re.compile("[\\s,;:!?、。…·「」『』《》〈〉【】\"'“”‘’«»]+|\\.(?![0-9])")
"""White space and punctuation; the point of 3.14 is not punctuation."""


def input_text(row: dict[str, Any]) -> str:
    """The prompt as one text; the output, where there is no prompt (raw text)."""
    turns = _turns(row)
    return " ".join([row["system"], *turns, row["instruction"], row["input"]]).strip() or row["output"]


def passage_text(row: dict[str, Any]) -> str:
    """The text that two splits may not share: the row without its instruction, which many rows share, unless there is no input."""
    return "\n".join([*_turns(row), row["input"] or row["instruction"], row["output"]])


def prompt_and_answer(row: dict[str, Any]) -> tuple[str, str]:
    """The text of `passage_text` in two parts: the user's turns and the model's turns."""
    turns = [] if row["history"] == "[]" else json.loads(row["history"])
    prompt = [turn[1] for turn in turns if turn[0] != "assistant"]
    answer = [turn[1] for turn in turns if turn[0] == "assistant"]
    return "\n".join([*prompt, row["input"] or row["instruction"]]), "\n".join([*answer, row["output"]])


def exchanges(row: dict[str, Any], normalised_prompt: str, normalised_answer: str) -> list[int]:
    """A 32-bit hash of each user turn with its answer, both in the history and of the row's last turn.

    White space and punctuation are ignored: `秘鲁的首都是哪里？` equals `秘鲁的首都是哪里`. Prompt and answer of the last turn are
    given in normal form.
    """
    turns = [] if row["history"] == "[]" else json.loads(row["history"])
    pairs = [
        (normalise(before[1]), normalise(after[1]))
        for before, after in itertools.pairwise(turns)
        if (before[0], after[0]) == ("user", "assistant")
    ]
    pairs.append((normalised_prompt, normalised_answer))
    pairs = [(_MARKS.sub("", prompt), _MARKS.sub("", answer)) for prompt, answer in pairs]
    return [_hash(f"{prompt}\x1f{answer}") for prompt, answer in pairs if prompt]


def content_key(row: dict[str, Any], normalised_input: str, normalised_answer: str) -> bytes:
    """16 bytes, equal for duplicates: a digest of family, normalised input, normalised answer and further content fields."""
    spelled = in_canonical_spelling(row)
    answer = normalised_answer if spelled is row else normalise(spelled["output"])
    row, parts = spelled, [row["family"], normalised_input, answer]
    parts += [f"{name}\x1e{row[name]}" for name, empty in MORE_FIELDS.items() if row[name] != empty]
    return _digest("\x1f".join(parts))[:16]


def split_of(normalised_input: str, salt: str, valid_share: float, test_share: float) -> str:
    """ "train", "valid" or "test", by the salted hash of the normalised input."""
    position = int.from_bytes(_digest(f"{salt}\x1f{normalised_input}")[:8], "big") / 2**64
    if position < test_share:
        return "test"
    return "valid" if position < test_share + valid_share else "train"


def last_prompt(row: dict[str, Any]) -> str:
    """The prompt of the last turn."""
    return f"{row['instruction']} {row['input']}".strip()


def _turns(row: dict[str, Any]) -> list[str]:
    return [] if row["history"] == "[]" else [turn[1] for turn in json.loads(row["history"])]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _hash(text: str) -> int:
    return int.from_bytes(_digest(text)[:4], "big")
