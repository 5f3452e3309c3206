"""Stored answers of the judge (.strop/judgements/), so that none is paid for twice: a file for each model, a line an answer.

The key of an answer is a digest of all that it depends on: the model, its server, the settings of a request, and the prompt, which
has rubric, question, target and both answers. Only the winner and the number of tokens are stored, no text. To clear them:
rm -r .strop/judgements
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tasks import paths
from tasks.evaluate.judge.answer import WINNERS
from tasks.evaluate.judge.pair import Winner
from tasks.runtime.files import content_digest
from tasks.runtime.json_lines import append_line


@dataclass(frozen=True)
class Judgement:
    """The judge's answer to one prompt."""

    winner: Winner | None
    """None: the answer was no verdict."""
    prompt_tokens: int
    completion_tokens: int


class Judgements:
    """Judgements by key, each written to disk as soon as it is there."""

    def __init__(self, model: str) -> None:
        self.path = paths.JUDGEMENTS / f"{content_digest(model)[:32]}.jsonl"
        self.by_key: dict[str, Judgement] = {}
        if self.path.is_file():
            for line in self.path.read_bytes().split(b"\n"):
                self._read(line)

    def add(self, key: str, judgement: Judgement) -> None:
        self.by_key[key] = judgement
        append_line(self.path, {"key": key, **vars(judgement)})

    def _read(self, line: bytes) -> None:
        """Reads a line; one that is damaged is left out: its prompt is judged again."""
        try:
            entry = json.loads(line)
            winner, tokens = entry["winner"], (int(entry["prompt_tokens"]), int(entry["completion_tokens"]))
            if winner is None or winner in WINNERS:
                self.by_key[str(entry["key"])] = Judgement(winner, *tokens)
        except (ValueError, LookupError, TypeError, RecursionError):
            return
