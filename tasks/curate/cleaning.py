"""Cleaning of a row: unseen characters, end-of-text markers of a dump, markup of a page, white space around. Pure.

All texts of a row are cleaned by the same rules: system, every turn of the history, instruction, input, output, rejected. Nothing
is taken out but by an `Edit`, which names the reason and what went. A second cleaning changes nothing. In a text that is JSON,
such as a tool's answer or a list of entities, the strings are cleaned, and the JSON stays as it was written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.curate import characters, end_markers, json_strings, markup, subject
from tasks.curate.edits import Edit, apply, white_space

TEXT_FIELDS = ("system", "instruction", "input", "output", "rejected")
_ANSWERS = ("output", "rejected")
_HISTORY_TO_CLEAN = re.compile(r'[<&]|\[(?:EOS|eos)|\\[rfbu]|\["[^"]+","\s|\["[^"]+","\\[nt]|\s"\]|\\[nt]"\]')
"""In a history's JSON: what may be dirt within a turn, or white space at its ends."""

Texts = dict[str, str]
"""A row's texts by field, and the turns of its history as `history.0`, `history.1`, ..."""


@dataclass
class Cleaned:
    row: dict[str, Any]
    found: Counter[str] = field(default_factory=Counter)
    """Reason → 1 where anything went for it (`control_characters`, `line_ends`, `markup`, `end_markers`, `white_space`); and reason
    and piece, `markup <b>` → how often that went."""
    rounds: dict[str, list[list[Edit]]] = field(default_factory=dict)
    """The edits of each text that changed, in rounds: those of one are made in the text that the one before it left."""


def clean_row(row: Mapping[str, Any]) -> Cleaned:
    """The row with its texts cleaned, and what was taken out."""
    if not _may_need_cleaning(row):
        return Cleaned(dict(row))
    came = texts_of(row)
    cleaner = _Cleaner(row, came)
    texts = cleaner.run(takes_markup=True)
    if cleaner.is_doubtful:
        again = _Cleaner(with_texts(row, texts), texts).run(takes_markup=True)
        if again != texts:  # what is left looks like markup: it was markup that the row spoke of
            cleaner = _Cleaner(row, came)
            texts = cleaner.run(takes_markup=False)
    found: Counter[str] = Counter()
    for edit in cleaner.made():
        found[edit.reason] = 1
        found[f"{edit.reason} {edit.piece}"] += edit.count
    return Cleaned(with_texts(row, texts), found, cleaner.rounds)


def texts_of(row: Mapping[str, Any]) -> Texts:
    texts = {name: row[name] for name in TEXT_FIELDS}
    if row["history"] != "[]":
        texts |= {f"history.{place}": turn[1] for place, turn in enumerate(json.loads(row["history"]))}
    return texts


def with_texts(row: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """The row with these texts in place of its own; its history is written anew only where a turn changed."""
    made = {**row, **{name: texts[name] for name in TEXT_FIELDS}}
    if row["history"] != "[]":
        turns = json.loads(row["history"])
        now = [[turn[0], texts[f"history.{place}"], *turn[2:]] for place, turn in enumerate(turns)]
        if now != turns:
            made["history"] = json.dumps(now, ensure_ascii=False, separators=(",", ":"))
    return made


def _may_need_cleaning(row: Mapping[str, Any]) -> bool:
    for name in TEXT_FIELDS:
        text = row[name]
        if text and (
            "<" in text
            or "&" in text
            or "\\u" in text
            or text[0].isspace()
            or text[-1].isspace()
            or "[EOS]" in text
            or "[eos]" in text
            or characters.HAS_DIRT.search(text)
        ):
            return True
    history = row["history"]
    return history != "[]" and bool(_HISTORY_TO_CLEAN.search(history) or characters.HAS_DIRT.search(history))


class _Cleaner:
    """Cleans the texts of one row, in rounds."""

    def __init__(self, row: Mapping[str, Any], texts: Texts) -> None:
        self._row = row
        self._texts = dict(texts)
        self.rounds: dict[str, list[list[Edit]]] = {}
        self._inner: list[Edit] = []
        self.is_doubtful = False
        """Might a second cleaning change more?"""

    def made(self) -> list[Edit]:
        """All edits that took something out; of those within JSON, the ones in its strings."""
        outer = [edit for rounds in self.rounds.values() for edits in rounds for edit in edits if edit.reason]
        return [*outer, *self._inner]

    def run(self, takes_markup: bool) -> Texts:
        self._round(
            lambda text: [] if json_strings.is_json(text) else characters.edits_of(text), characters.HAS_DIRT.search
        )
        self._round(self._in_json(characters.edits_of), _DIRT_IN_JSON.search)
        self._cut_end_markers()
        if takes_markup and any(map(markup.may_hold, self._texts.values())):
            self._take_markup()
        if any(text and (text[0].isspace() or text[-1].isspace()) for text in self._texts.values()):
            self._strip()
        return self._texts

    def _round(self, edits_of: Callable[[str], list[Edit]], is_worth_it: Callable[[str], object]) -> None:
        for name, text in self._texts.items():
            if text and is_worth_it(text) and (edits := edits_of(text)):
                self._make(name, edits)

    def _make(self, name: str, edits: list[Edit]) -> None:
        self._texts[name] = apply(self._texts[name], edits)
        self.rounds.setdefault(name, []).append(edits)

    def _in_json(self, edits_of: Callable[[str], list[Edit]]) -> Callable[[str], list[Edit]]:
        def edits(text: str) -> list[Edit]:
            if not json_strings.is_json(text):
                return []
            outer, inner = json_strings.edit_strings(text, edits_of)
            self._inner += inner
            self.is_doubtful |= bool(outer)
            return outer

        return edits

    def _cut_end_markers(self) -> None:
        texts = list(self._texts.values())
        if not any(map(end_markers.may_hold, texts)) or subject.speaks_of_tokens(texts):
            return
        if end_markers.are_spoken_of(texts):
            return
        has_tags = any("</s>" in text for text in texts) and subject.speaks_of_markup(texts)
        self._round(
            lambda text: [] if json_strings.is_json(text) else end_markers.edits_of(text, has_tags),
            end_markers.may_hold,
        )

    def _take_markup(self) -> None:
        texts = list(self._texts.values())
        if _calls_tools(self._row) or not markup.is_all_markup(texts):
            return
        if (
            subject.speaks_of_markup(texts)
            or subject.speaks_of_tokens(texts)
            or subject.is_code([self._row["family"], *texts])
        ):
            return
        planned: dict[str, list[Edit]] = {}
        for name, text in self._texts.items():
            if markup.may_hold(text) and not json_strings.is_json(text):
                edits = markup.edits_of(text)
                if edits is None:
                    return
                planned[name] = edits
        for name, edits in planned.items():
            if edits:
                self._make(name, edits)
                self.is_doubtful = True
        self._round(self._in_json(lambda text: markup.edits_of(text) or []), markup.may_hold)

    def _strip(self) -> None:
        """Takes white space from around the texts, unless it says something; from the better and the worse answer alike."""
        texts = list(self._texts.values())
        row = {**self._row, **{name: self._texts[name] for name in TEXT_FIELDS}}
        stays = subject.is_laid_out(row, texts)
        are_labels = stays and subject.are_labels(row)
        for name, text in self._texts.items():
            if not stays or (are_labels and name in _ANSWERS):
                first = len(text) - len(text.lstrip())
                last = max(len(text.rstrip()), first)
                if edits := [*white_space(text, 0, first), *white_space(text, last, len(text))]:
                    self._make(name, edits)


_DIRT_IN_JSON = re.compile(rf"\\[rfbu]|{characters.HAS_DIRT.pattern}")


def _calls_tools(row: Mapping[str, Any]) -> bool:
    """Does the row call tools? What their arguments and answers hold is data for a program, markup included."""
    return bool(row["tools"]) or '["tool' in row["history"] or row["output"].startswith('[{"arguments":')
