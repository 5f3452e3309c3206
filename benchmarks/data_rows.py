"""Synthetic rows: words by Zipf's law, a tenth Chinese, 2 % duplicates, 2 % near-duplicates, 1 % with an e-mail address."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path


class Writer:
    """Generates rows."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        words = [
            "".join(self.draw.choices("abcdefghijklmnopqrstuvwxyz", k=self.draw.randint(2, 9))) for _ in range(20_000)
        ]
        characters = [chr(self.draw.randint(0x4E00, 0x8FFF)) for _ in range(3_000)]
        self.words, self.characters = words, characters
        self.word_weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(words))))
        self.character_weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(characters))))

    def english(self, count: int) -> str:
        return " ".join(self.draw.choices(self.words, cum_weights=self.word_weights, k=count))

    def chinese(self, count: int) -> str:
        return "".join(self.draw.choices(self.characters, cum_weights=self.character_weights, k=count))

    def rows(self, count: int) -> Iterator[dict[str, str]]:
        """About 600 bytes per row."""
        earlier: list[dict[str, str]] = []
        for _ in range(count):
            chance = self.draw.random()
            if chance < 0.04 and earlier:
                row = dict(self.draw.choice(earlier))
                if chance < 0.02:
                    row["input"] += " indeed" if row["input"].isascii() else "啊"
            elif chance < 0.14:
                row = {"instruction": self.chinese(12), "input": self.chinese(90), "output": self.chinese(60)}
            else:
                row = {"instruction": self.english(8), "input": self.english(45), "output": self.english(35)}
            if chance > 0.99:
                row["output"] += " mail li@example.org"
            if len(earlier) < 2_000:
                earlier.append(row)
            yield row

    def write(self, path: Path, count: int) -> int:
        """Writes a file of rows, and returns its size."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for row in self.rows(count):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return path.stat().st_size
