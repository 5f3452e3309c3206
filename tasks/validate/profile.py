"""Statistics of a family's rows: lengths, labels, languages, blanks and patterns. Updated a chunk at a time. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.expression.measure import Counts, characters_of, column, has_text, segments_of
from tasks.records.raw_batch import ERASED
from tasks.validate.contract.contract import FamilyContract, Script
from tasks.validate.rules.predicates import is_in_script, is_undamaged, prompt_of

FIELDS = ("system", "instruction", "input", "output")
MOST_LABELS = 200
SAMPLED_A_CHUNK = 500
SAMPLED = 10_000
QUANTILES = {"least": 0.0, "p0.1": 0.001, "p5": 0.05, "median": 0.5, "p95": 0.95, "p99.9": 0.999, "most": 1.0}
SCRIPTS: dict[Literal["en", "zh"], Script] = {
    "en": Script(script="Latin", min_share=0.5),
    "zh": Script(script="Han", min_share=0.02),
}
SHARED_BY = 0.99
"""The share of texts with a common prefix or suffix from which it is reported."""


@dataclass
class Profile:
    """Statistics of one family."""

    family: str
    records: int = 0
    rows: int = 0
    """Records that are rows."""
    sources: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    blank: Counter[str] = field(default_factory=Counter)
    """Field → rows in which it is blank."""
    damaged: int = 0
    off_script: int = 0
    """Rows whose input and output are both in another script than their language's."""
    lengths: dict[str, list[Counts]] = field(default_factory=dict)
    labels: Counter[str] | None = field(default_factory=Counter)
    """Output → rows; None where there are too many to be labels."""
    own_ids: int = 0
    samples: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FIELDS})

    def add(self, table: pa.Table) -> None:
        """Adds some records (RECORD_SCHEMA)."""
        self.records += table.num_rows
        self.sources.update(table["source"].to_pylist())
        problems = column(table, "problem")
        self.problems.update(code for code in problems.to_pylist() if code and code != ERASED)
        rows = table.filter(pc.equal(problems, ""))
        self.rows += rows.num_rows
        if not rows.num_rows:
            return
        self.languages.update(rows["language"].to_pylist())
        self.own_ids += rows.num_rows - rows["own_id"].null_count
        judged = FamilyContract(scripts=SCRIPTS)
        self.damaged += int((~is_undamaged(rows, judged)).sum())
        self.off_script += int((~is_in_script(rows, judged)).sum())
        for part, texts in (("input", prompt_of(rows)), ("output", column(rows, "output"))):
            trimmed = pc.utf8_trim_whitespace(texts)
            self.lengths.setdefault(f"{part}_segments", []).append(segments_of(texts))
            self.lengths.setdefault(f"{part}_characters", []).append(characters_of(trimmed))
        for name in FIELDS:
            self._add_field(name, column(rows, name))
        self._add_labels(pc.utf8_trim_whitespace(column(rows, "output")))

    def _add_field(self, name: str, texts: pa.Array) -> None:
        is_filled = has_text(texts)
        self.blank[name] += int((~is_filled).sum())
        sample = self.samples[name]
        count = min(SAMPLED_A_CHUNK, SAMPLED - len(sample))
        sample += texts.filter(pa.array(is_filled)).slice(0, count).to_pylist()

    def _add_labels(self, outputs: pa.Array) -> None:
        if self.labels is None:
            return
        for entry in pc.value_counts(outputs).to_pylist():
            self.labels[entry["values"]] += entry["counts"]
        if len(self.labels) > MOST_LABELS:
            self.labels = None

    def quantiles(self, name: str) -> dict[str, int]:
        """Quantiles of a length (`input_segments`, `output_characters`, ...); empty where there are no rows."""
        if name not in self.lengths:
            return {}
        values = np.quantile(np.concatenate(self.lengths[name]), list(QUANTILES.values()), method="higher")
        return dict(zip(QUANTILES, map(int, values), strict=True))

    def label_set(self) -> dict[str, int] | None:
        """Label → rows, most frequent first, where the outputs are labels: few, short and repeated; else None."""
        if not self.labels or "" in self.labels:
            return None
        is_set = self.rows >= 5 * len(self.labels) and max(map(len, self.labels)) <= 64
        return dict(sorted(self.labels.items(), key=lambda item: (-item[1], item[0]))) if is_set else None

    def affixes(self, name: str) -> dict[str, str]:
        """`begins` and `ends`: the prefix and suffix that nearly all texts of the field share."""
        texts = self.samples[name]
        if len(texts) < 20 or len(set(texts)) < 10:
            return {}
        begins = _shared_prefix(texts)
        ends = _shared_prefix([text[::-1] for text in texts])[::-1]
        return {what: text for what, text in (("begins", begins), ("ends", ends)) if len(text.strip()) >= 3}

    def as_dict(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "rows": self.rows,
            "sources": dict(self.sources),
            "problems": dict(self.problems),
            "languages": dict(self.languages),
            "blank": {name: self.blank[name] for name in FIELDS},
            "damaged": self.damaged,
            "off_script": self.off_script,
            "own_ids": self.own_ids,
            "lengths": {name: self.quantiles(name) for name in sorted(self.lengths)},
            "labels": self.label_set(),
            "patterns": {name: affixes for name in FIELDS if (affixes := self.affixes(name))},
        }


def _shared_prefix(texts: list[str]) -> str:
    """The longest prefix that nearly all of the texts share."""
    needed = SHARED_BY * len(texts)
    shared = ""
    while True:
        following = Counter(text[len(shared)] for text in texts if len(text) > len(shared))
        if not following:
            return shared
        character, count = following.most_common(1)[0]
        if count < needed:
            return shared
        shared += character
        texts = [text for text in texts if text.startswith(shared)]
