"""Cleaning of a row: unseen characters, end-of-text markers of a dump, markup of a page, white space around. Pure.

All texts of a row are cleaned by the same rules: system, every turn of the history and thought, instruction, input, output,
rejected. Nothing is taken out but by an `Edit`, which names the reason and what went. A second cleaning changes nothing. In a text
that is JSON, such as a tool's answer or a list of entities, the strings are cleaned, and the JSON stays as it was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tasks.curate.cleaning import characters, end_markers, json_strings, layout, markup
from tasks.curate.cleaning.edits import Edit, apply, white_space
from tasks.curate.cleaning.row_texts import TEXT_FIELDS, Texts, texts_of, with_texts
from tasks.curate.cleaning.subject import Subject

_ANSWERS = ("output", "rejected")
_DIRT_IN_HISTORY = (
    *("<", "&", "[EOS]", "[eos]", r"\r", r"\u", r"\f", r"\b"),
    *(f'{space}"]' for space in (" ", r"\n", r"\t", "\u3000", "\xa0")),
    *(f'","{space}' for space in (" ", r"\n", r"\t", "\u3000", "\xa0")),
)
"""In a history's JSON: what may be dirt within a turn, or white space at its ends."""

Edits = Callable[[str], list[Edit]]
"""A text → what becomes of it."""


@dataclass
class Cleaned:
    row: dict[str, Any]
    found: Counter[str] = field(default_factory=Counter)
    """Reason → 1 where anything went for it (`control_characters`, `line_ends`, `markup`, `end_markers`, `white_space`); and reason
    and piece, `markup <b>` → how often that went."""
    rounds: dict[str, list[list[Edit]]] = field(default_factory=dict)
    """The edits of each text that changed, in rounds: those of one are made in the text that the one before it left."""


def clean_row(row: Mapping[str, Any], takes_markup: bool = True) -> Cleaned:
    """The row with its texts cleaned, and what was taken out."""
    if not _may_need_cleaning(row):
        return Cleaned(dict(row))
    came = texts_of(row)
    cleaner = _Cleaner(row, came)
    texts = cleaner.run(takes_markup)
    if cleaner.is_doubtful:
        again = _Cleaner(with_texts(row, texts, cleaner.rounds), texts).run(takes_markup)
        if again != texts:  # what is left looks like markup: it was markup that the row spoke of
            cleaner = _Cleaner(row, came)
            texts = cleaner.run(takes_markup=False)
    found: Counter[str] = Counter()
    for edit in cleaner.made():
        found[edit.reason] = 1
        found[f"{edit.reason} {edit.piece}"] += edit.count
    return Cleaned(with_texts(row, texts, cleaner.rounds), found, cleaner.rounds)


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
            or characters.may_hold(text)
        ):
            return True
    if row.get("thoughts"):
        return True
    history = row["history"]
    return history != "[]" and (any(dirt in history for dirt in _DIRT_IN_HISTORY) or characters.may_hold(history))


class _Cleaner:
    """Cleans the texts of one row, in rounds."""

    def __init__(self, row: Mapping[str, Any], texts: Texts) -> None:
        self._row = row
        self._texts = dict(texts)
        self.rounds: dict[str, list[list[Edit]]] = {}
        self._in_strings: list[Edit] = []
        self.is_doubtful = False
        """Might a second cleaning change more?"""

    def made(self) -> list[Edit]:
        """All edits that took something out; of those within JSON, the ones in its strings."""
        outer = [edit for rounds in self.rounds.values() for edits in rounds for edit in edits if edit.reason]
        return [*outer, *self._in_strings]

    def run(self, takes_markup: bool) -> Texts:
        self._take_characters()
        if self._cut_end_markers():  # one may have stood behind JSON
            self._take_characters_in_json()
        if takes_markup and any(map(markup.may_hold, self._texts.values())):
            self._take_markup()
        if any(text and (text[0].isspace() or text[-1].isspace()) for text in self._texts.values()):
            self._strip()
        return self._texts

    @cached_property
    def _subject(self) -> Subject:
        """Of the row without unseen characters, and once those are gone, without end markers: as a second cleaning would see it."""
        return Subject(self._texts.values())

    @cached_property
    def _is_code(self) -> bool:
        """Is there code in the row, JSON left aside?"""
        if not any(text.lstrip()[:1] in ("[", "{") for text in self._texts.values() if text):
            return Subject([self._row["family"]]).is_code or self._subject.is_code
        prose = [text for text in self._texts.values() if not json_strings.is_json(text)]
        return Subject([self._row["family"], *prose]).is_code

    def _round(self, edits_of: Edits, may_hold: Callable[[str], object]) -> bool:
        """Cleans each text that may need it; whether any did."""
        has_made = False
        for name, text in self._texts.items():
            if text and may_hold(text) and (edits := edits_of(text)):
                self._make(name, edits)
                has_made = True
        return has_made

    def _make(self, name: str, edits: list[Edit]) -> None:
        self._texts[name] = apply(self._texts[name], edits)
        self.rounds.setdefault(name, []).append(edits)

    def _take_characters(self) -> None:
        """Takes unseen characters out of the texts, and of the strings of those that are JSON."""
        texts = self._texts.values()
        if not any(map(characters.may_hold, texts)) and not any(map(json_strings.may_hold_escapes, texts)):
            return
        if not self._subject.is_characters:
            self._round(_outside_json(characters.edits_of), characters.may_hold)
            self._take_characters_in_json()
            del self._subject

    def _take_characters_in_json(self) -> None:
        self._round(self._inside_json(characters.edits_of), json_strings.may_hold_escapes)

    def _inside_json(self, edits_of: Edits) -> Edits:
        def edits(text: str) -> list[Edit]:
            if not json_strings.is_json(text):
                return []
            outer, inner = json_strings.edit_strings(text, edits_of)
            self._in_strings += inner
            self.is_doubtful |= bool(outer)
            return outer

        return edits

    def _cut_end_markers(self) -> bool:
        texts = [text for text in self._texts.values() if end_markers.may_hold(text)]
        if not texts or end_markers.are_spoken_of(texts) or self._subject.is_tokenizer:
            return False
        if self._subject.is_tokens and not all(map(end_markers.are_glued_to_text, texts)):
            return False
        are_tags = any("</s>" in text for text in texts) and self._subject.is_markup
        del self._subject
        return self._round(_outside_json(lambda text: end_markers.edits_of(text, are_tags)), end_markers.may_hold)

    def _take_markup(self) -> None:
        if _calls_tools(self._row) or not markup.is_all_markup(self._texts.values()):
            return
        if self._subject.is_markup or self._subject.is_tokens or self._is_code or markup.is_worked_with(self._texts):
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
        self._round(self._inside_json(lambda text: markup.edits_of(text) or []), markup.may_hold)

    def _strip(self) -> None:
        """Takes white space from around the texts, unless it says something; from the better and the worse answer alike."""
        row = {**self._row, **{name: self._texts[name] for name in TEXT_FIELDS}}
        is_spoken_of = self._subject.is_layout
        stays = is_spoken_of or layout.is_laid_out(row) or self._is_code
        are_labels = stays and not is_spoken_of and layout.are_labels(row)
        for name, text in self._texts.items():
            if not stays or (are_labels and name in _ANSWERS):
                first = len(text) - len(text.lstrip())
                last = max(len(text.rstrip()), first)
                if first or last < len(text):
                    self._make(name, [*white_space(text, 0, first), *white_space(text, last, len(text))])


def _outside_json(edits_of: Edits) -> Edits:
    return lambda text: [] if json_strings.is_json(text) else edits_of(text)


def _calls_tools(row: Mapping[str, Any]) -> bool:
    """Does the row call tools? What their arguments and answers hold is data for a program, markup included."""
    return bool(row["tools"]) or '["tool' in row["history"] or row["output"].startswith('[{"arguments":')
