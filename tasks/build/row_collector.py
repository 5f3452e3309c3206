"""What a recipe makes: rows with their origin, and what was refused on the way, counted by reason. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.records import raw_batch
from tasks.records.segmentation import normalise
from tasks.records.shapes import SYNTHETIC

ALWAYS_WRITTEN = ("instruction", "input", "output")


@dataclass
class Made:
    """The rows of one recipe, as they come."""

    recipe: str
    rows_wanted: int
    held_out: frozenset[bytes] = frozenset()
    """Keys of the prompts that are tested on: nothing may be made that asks the same."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Records of shape `row`, marked: `{"strop_synthetic": {"recipe": name, "parents": [row ids or record digests]}}`."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason → how many."""
    _known: set[bytes] = field(default_factory=set)

    @property
    def is_enough(self) -> bool:
        return len(self.rows) >= self.rows_wanted

    def refuse(self, reason: str) -> None:
        self.refused[reason] += 1

    def add(self, fields: Mapping[str, str], parents: Sequence[str]) -> bool:
        """Takes a row, or refuses it: without an answer or a prompt, asked of the test rows, or made before."""
        prompt = prompt_key(fields)
        key = prompt + _digest(normalise(fields["output"]))
        if not fields["output"].strip():
            self.refuse("empty_output")
        elif not (fields["instruction"].strip() or fields["input"].strip()):
            self.refuse("empty_prompt")
        elif prompt in self.held_out:
            self.refuse("held_out")
        elif key in self._known:
            self.refuse("duplicate")
        else:
            self._known.add(key)
            content = {name: text for name, text in fields.items() if name in ALWAYS_WRITTEN or text not in ("", "[]")}
            self.rows.append({**content, SYNTHETIC: {"recipe": self.recipe, "parents": list(parents)}})
            return True
        return False


def prompt_key(fields: Mapping[str, str]) -> bytes:
    """16 bytes that two rows share which ask the same, but for case, width and white space."""
    return _digest(
        normalise(" ".join([fields.get("system", ""), fields.get("instruction", ""), fields.get("input", "")]))
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def digest_of(record: Mapping[str, Any]) -> str:
    """A record's identity as ingestion would call it: 32 hex characters."""
    return raw_batch.digest_of(dict(record))
