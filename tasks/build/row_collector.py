"""The generated rows of a recipe with their origin, and the number of refused ones by reason. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.records.origin import SYNTHETIC
from tasks.records.segmentation import normalise

ALWAYS_WRITTEN = ("instruction", "input", "output")


@dataclass
class RowCollector:
    """The rows of one recipe."""

    recipe: str
    max_rows: int
    held_out: frozenset[bytes] = frozenset()
    """Keys of the prompts of validation and test rows: no row with such a prompt is generated."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Records of shape `row` with their origin: `{"strop_synthetic": {"recipe": name, "parents": [row ids or record digests]}}`."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason → number of refused rows."""
    _keys: set[bytes] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        return len(self.rows) >= self.max_rows

    def refuse(self, reason: str) -> None:
        self.refused[reason] += 1

    def add(self, fields: Mapping[str, str], parents: Sequence[str]) -> bool:
        """Adds a row, or refuses it: no answer, no prompt, a prompt of the held-out rows, or a duplicate."""
        prompt = prompt_key(fields)
        key = prompt + _digest(normalise(fields["output"]))
        if not fields["output"].strip():
            self.refuse("empty_output")
        elif not (fields["instruction"].strip() or fields["input"].strip()):
            self.refuse("empty_prompt")
        elif prompt in self.held_out:
            self.refuse("held_out")
        elif key in self._keys:
            self.refuse("duplicate")
        else:
            self._keys.add(key)
            content = {name: text for name, text in fields.items() if name in ALWAYS_WRITTEN or text not in ("", "[]")}
            self.rows.append({**content, SYNTHETIC: {"recipe": self.recipe, "parents": list(parents)}})
            return True
        return False


def prompt_key(fields: Mapping[str, str]) -> bytes:
    """16 bytes; equal for prompts that differ only in case, width and white space."""
    return _digest(normalise(" ".join(fields.get(name, "") for name in ("system", "instruction", "input"))))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
