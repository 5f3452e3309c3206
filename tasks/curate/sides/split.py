"""The side of a row by itself, and what it is compared by. Pure: all of it follows from the row's content alone.

The split looks at the input, not the answer, so that all answers to one prompt stand on one side; and at its joined text,
so that a prompt stands on the same side whichever shape it came in.
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
"""White space and marks of a sentence; the point of 3.14 is none."""


def input_text(row: dict[str, Any]) -> str:
    """What the model is shown, as one text; the output, where it is shown nothing (raw text)."""
    turns = _turns(row)
    return " ".join([row["system"], *turns, row["instruction"], row["input"]]).strip() or row["output"]


def passage_text(row: dict[str, Any]) -> str:
    """What must not stand on two sides: the row without its instruction, which many rows share, unless it is all there is."""
    return "\n".join([*_turns(row), row["input"] or row["instruction"], row["output"]])


def prompt_and_answer(row: dict[str, Any]) -> tuple[str, str]:
    """The text of `passage_text`, apart: what the model is given, and what is an answer of its own."""
    turns = [] if row["history"] == "[]" else json.loads(row["history"])
    prompt = [turn[1] for turn in turns if turn[0] != "assistant"]
    answer = [turn[1] for turn in turns if turn[0] == "assistant"]
    return "\n".join([*prompt, row["input"] or row["instruction"]]), "\n".join([*answer, row["output"]])


def exchanges(row: dict[str, Any], normalised_prompt: str, normalised_answer: str) -> list[int]:
    """A 32-bit hash of each user turn with the answer that follows it, whether it stands in the history or is the row's last.

    White space and the marks of a sentence make no difference: `秘鲁的首都是哪里？` asks what `秘鲁的首都是哪里` does.

    Args:
        normalised_prompt: of the last turn: instruction and input.
        normalised_answer: the output.
    """
    turns = [] if row["history"] == "[]" else [(turn[0], turn[1]) for turn in json.loads(row["history"])]
    pairs = [
        (normalise(before[1]), normalise(after[1]))
        for before, after in itertools.pairwise(turns)
        if (before[0], after[0]) == ("user", "assistant")
    ]
    pairs.append((normalised_prompt, normalised_answer))
    pairs = [(_MARKS.sub("", prompt), _MARKS.sub("", answer)) for prompt, answer in pairs]
    return [_hash(f"{prompt}\x1f{answer}") for prompt, answer in pairs if prompt]


def content_key(row: dict[str, Any], normalised_input: str, normalised_answer: str) -> bytes:
    """16 bytes that equal rows share: family, normalised input and normalised answer, and what else is content."""
    spelled = in_canonical_spelling(row)
    answer = normalised_answer if spelled is row else normalise(spelled["output"])
    row, parts = spelled, [row["family"], normalised_input, answer]
    parts += [f"{name}\x1e{row[name]}" for name, empty in MORE_FIELDS.items() if row[name] != empty]
    return _digest("\x1f".join(parts))[:16]


def split_of(normalised_input: str, salt: str, valid_share: float, test_share: float) -> str:
    """ "train", "valid" or "test", by the salted hash of the normalised input."""
    place = int.from_bytes(_digest(f"{salt}\x1f{normalised_input}")[:8], "big") / 2**64
    if place < test_share:
        return "test"
    return "valid" if place < test_share + valid_share else "train"


def last_prompt(row: dict[str, Any]) -> str:
    """What the last turn asks."""
    return f"{row['instruction']} {row['input']}".strip()


def _turns(row: dict[str, Any]) -> list[str]:
    return [] if row["history"] == "[]" else [turn[1] for turn in json.loads(row["history"])]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _hash(text: str) -> int:
    return int.from_bytes(_digest(text)[:4], "big")
