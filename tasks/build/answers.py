"""The answers that a recipe was given, kept at once: an interrupted recipe asks again only what was not answered.

Equal recipes draw equal prompts, so a prompt (the first, second, ... time that it is asked) finds its answer again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tasks import paths
from tasks.build.generator import CutOff, Generator
from tasks.errors import DataError
from tasks.runtime.files import append_line, content_digest

FOLDER = paths.CACHE / "build"


class NotAnswered(Exception):
    """Raised in a dry run by the first prompts that would have to be asked."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} prompts have no answer yet")
        self.count = count


class Answers:
    """A generator with a memory."""

    def __init__(self, generator: Generator | None, identity: object, recipe: str, folder: Path = FOLDER) -> None:
        """
        Args:
            generator: None in a dry run: then nothing is asked.
            identity: JSON that stands for the generator; another one's answers are not taken.
            recipe: its name, which the file is called by.
        """
        self.generator = generator
        self.path = folder / f"{recipe}.jsonl"
        self.asked = 0
        self.remembered = 0
        self._identity = content_digest(identity)[:16]
        self._times: Counter[str] = Counter()
        self._known = self._read()

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """One answer a prompt, in order; asks only for those that are not remembered.

        Raises:
            NotAnswered: some are not, and this is a dry run.
            StropError: as the generator's; what was answered before is kept.
        """
        keys = [self._key(prompt) for prompt in prompts]
        missing = [place for place, key in enumerate(keys) if key not in self._known]
        self.remembered += len(keys) - len(missing)
        if missing and self.generator is None:
            raise NotAnswered(len(missing))

        def keep(place: int, text: str) -> None:
            key = keys[missing[place]]
            self._known[key] = _whole(text)
            self.asked += 1
            cut_off = {"cut_off": True} if isinstance(text, CutOff) else {}
            append_line(self.path, {"key": key, "answer": self._known[key], **cut_off})

        if missing and self.generator is not None:
            self.generator.complete([prompts[place] for place in missing], keep)
        return [self._known[key] for key in keys]

    def _key(self, prompt: str) -> str:
        digest = content_digest([self._identity, prompt])[:32]
        self._times[digest] += 1
        return f"{digest}.{self._times[digest]}"

    def _read(self) -> dict[str, str]:
        known: dict[str, str] = {}
        if not self.path.exists():
            return known
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            try:
                entry = json.loads(line) if line.strip() else None
                if entry is not None:
                    answer = str(entry["answer"])
                    known[str(entry["key"])] = CutOff(answer) if entry.get("cut_off") else answer
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                if line.startswith(b"{") and not line.endswith(b"}"):
                    continue  # torn by a crash: that one answer is asked for again
                fix = "Remove the line: its answer is then asked for again"
                raise DataError(f"no kept answer ({error})", where=f"{self.path} line {number}", fix=fix) from error
        return known


def _whole(text: str) -> str:
    """The text as valid UTF-8."""
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return CutOff(whole) if isinstance(text, CutOff) else whole
