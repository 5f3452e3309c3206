"""The answers to a recipe's prompts, stored at once: an interrupted recipe generates only the missing ones.

Equal recipes draw equal prompts, so that the first, second, ... occurrence of a prompt has its stored answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tasks import paths
from tasks.build.generator import CutOff, Generator
from tasks.errors import DataError
from tasks.runtime.files import content_digest
from tasks.runtime.json_lines import append_line

FOLDER = paths.CACHE / "build"


class AnswersMissing(Exception):
    """Raised in a dry run by the first prompts without a stored answer."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} prompts have no answer yet")
        self.count = count


class CachedGenerator:
    """A generator whose answers are stored."""

    def __init__(self, generator: Generator | None, identity: object, recipe: str, folder: Path = FOLDER) -> None:
        """
        Args:
            generator: None in a dry run: no answer is generated.
            identity: JSON that identifies the generator; answers of another one are not used.
            recipe: its name, which is the name of the file.
        """
        self.generator = generator
        self.path = folder / f"{recipe}.jsonl"
        self.generated = 0
        self.cached = 0
        self._identity = content_digest(identity)[:16]
        self._occurrences: Counter[str] = Counter()
        self._answers = self._read()

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """One answer per prompt, in order; generates only those that are not stored.

        Raises:
            AnswersMissing: an answer is missing, and this is a dry run.
            StropError: raised by the generator; the earlier answers are stored.
        """
        keys = [self._key(prompt) for prompt in prompts]
        missing = [index for index, key in enumerate(keys) if key not in self._answers]
        self.cached += len(keys) - len(missing)
        if missing and self.generator is None:
            raise AnswersMissing(len(missing))

        def store(index: int, text: str) -> None:
            key = keys[missing[index]]
            self._answers[key] = _valid_utf8(text)
            self.generated += 1
            cut_off = {"cut_off": True} if isinstance(text, CutOff) else {}
            append_line(self.path, {"key": key, "answer": self._answers[key], **cut_off})

        if missing and self.generator is not None:
            self.generator.complete([prompts[index] for index in missing], store)
        return [self._answers[key] for key in keys]

    def _key(self, prompt: str) -> str:
        digest = content_digest([self._identity, prompt])[:32]
        self._occurrences[digest] += 1
        return f"{digest}.{self._occurrences[digest]}"

    def _read(self) -> dict[str, str]:
        answers: dict[str, str] = {}
        if not self.path.exists():
            return answers
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            try:
                entry = json.loads(line) if line.strip() else None
                if entry is not None:
                    answer = str(entry["answer"])
                    answers[str(entry["key"])] = CutOff(answer) if entry.get("cut_off") else answer
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                if line.startswith(b"{") and not line.endswith(b"}"):
                    continue  # incomplete after a crash: that answer is generated again
                fix = "Remove the line: its answer is then generated again"
                where = f"{self.path} line {number}"
                raise DataError(f"not a stored answer ({error})", where=where, fix=fix) from error
        return answers


def _valid_utf8(text: str) -> str:
    valid = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return CutOff(valid) if isinstance(text, CutOff) else valid
