"""Cleaning of a row: invisible characters, end-of-text markers of a dump, markup of a web page, surrounding white space. Pure.

All texts of a row are cleaned by the same rules: system, every turn of the history and thought, instruction, input, output,
rejected. Every change is an `Edit` with a reason and the removed piece. Cleaning is idempotent. In a text that is JSON, such as a
tool's answer or a list of entities, the strings are cleaned, and the JSON syntax is not changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tasks.curate.cleaning import characters, end_markers, layout, markup
from tasks.curate.cleaning.row_texts import TEXT_FIELDS, Texts, texts_of, with_texts
from tasks.curate.cleaning.subject import Subject
from tasks.pii import json_strings
from tasks.pii.edits import Edit, apply, white_space

_ANSWERS = ("output", "rejected")
_NOISE_IN_HISTORY = (
    *("<", "&", "[EOS]", "[eos]", r"\r", r"\u", r"\f", r"\b"),
    *(f'{space}"]' for space in (" ", r"\n", r"\t", "\u3000", "\xa0")),
    *(f'","{space}' for space in (" ", r"\n", r"\t", "\u3000", "\xa0")),
)
"""Substrings of a history's JSON that may be noise within a turn, or white space at its ends."""

Edits = Callable[[str], list[Edit]]
"""A text → its edits."""


@dataclass
class Cleaned:
    row: dict[str, Any]
    counts: Counter[str] = field(default_factory=Counter)
    """Reason → 1 where anything was removed for it (`control_characters`, `line_ends`, `markup`, `end_markers`, `white_space`); and
    reason and piece, `markup <b>` → how often it was removed."""
    rounds: dict[str, list[list[Edit]]] = field(default_factory=dict)
    """The edits of each changed text, in rounds: the edits of a round apply to the result of the round before."""


def clean_row(row: Mapping[str, Any], removes_markup: bool = True) -> Cleaned:
    """The row with its texts cleaned, and the counts of what was removed."""
    if not _may_need_cleaning(row):
        return Cleaned(dict(row))
    original = texts_of(row)
    cleaner = _Cleaner(row, original)
    texts = cleaner.run(removes_markup)
    if cleaner.may_change_again:
        again = _Cleaner(with_texts(row, texts, cleaner.rounds), texts).run(removes_markup)
        if again != texts:  # what remains looks like markup: the row is about markup
            cleaner = _Cleaner(row, original)
            texts = cleaner.run(removes_markup=False)
    counts: Counter[str] = Counter()
    for edit in cleaner.edits_made():
        counts[edit.reason] = 1
        counts[f"{edit.reason} {edit.piece}"] += edit.count
    return Cleaned(with_texts(row, texts, cleaner.rounds), counts, cleaner.rounds)


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
    return history != "[]" and (any(noise in history for noise in _NOISE_IN_HISTORY) or characters.may_hold(history))


class _Cleaner:
    """Cleans the texts of one row, in rounds."""

    def __init__(self, row: Mapping[str, Any], texts: Texts) -> None:
        self._row = row
        self._texts = dict(texts)
        self.rounds: dict[str, list[list[Edit]]] = {}
        self._in_strings: list[Edit] = []
        self.may_change_again = False
        """May a second cleaning change more?"""

    def edits_made(self) -> list[Edit]:
        """All edits that removed something; for JSON, those within its strings."""
        outer = [edit for rounds in self.rounds.values() for edits in rounds for edit in edits if edit.reason]
        return [*outer, *self._in_strings]

    def run(self, removes_markup: bool) -> Texts:
        self._remove_characters()
        if self._cut_end_markers():  # one may have followed JSON
            self._remove_characters_in_json()
        if removes_markup and any(map(markup.may_hold, self._texts.values())):
            self._remove_markup()
        if any(text and (text[0].isspace() or text[-1].isspace()) for text in self._texts.values()):
            self._strip()
        return self._texts

    @cached_property
    def _subject(self) -> Subject:
        """The subject of the row as cleaned so far (without invisible characters, then without end markers), so that a second
        cleaning decides the same."""
        return Subject(self._texts.values())

    @cached_property
    def _is_code(self) -> bool:
        """Is there code in the row, JSON excluded?"""
        if not any(text.lstrip()[:1] in ("[", "{") for text in self._texts.values() if text):
            return Subject([self._row["family"]]).is_code or self._subject.is_code
        prose = [text for text in self._texts.values() if not json_strings.is_json(text)]
        return Subject([self._row["family"], *prose]).is_code

    def _round(self, edits_of: Edits, may_hold: Callable[[str], object]) -> bool:
        """Cleans each text that may need it; returns whether any changed."""
        has_edited = False
        for name, text in self._texts.items():
            if text and may_hold(text) and (edits := edits_of(text)):
                self._apply(name, edits)
                has_edited = True
        return has_edited

    def _apply(self, name: str, edits: list[Edit]) -> None:
        self._texts[name] = apply(self._texts[name], edits)
        self.rounds.setdefault(name, []).append(edits)

    def _remove_characters(self) -> None:
        """Removes invisible characters from the texts, and from the strings of those that are JSON."""
        texts = self._texts.values()
        if not any(map(characters.may_hold, texts)) and not any(map(characters.may_hold_in_json, texts)):
            return
        if not self._subject.is_characters:
            self._round(_outside_json(characters.edits_of), characters.may_hold)
            self._remove_characters_in_json()
            del self._subject

    def _remove_characters_in_json(self) -> None:
        self._round(self._inside_json(characters.edits_of), characters.may_hold_in_json)

    def _inside_json(self, edits_of: Edits) -> Edits:
        def edits(text: str) -> list[Edit]:
            if not json_strings.is_json(text):
                return []
            outer, inner = json_strings.edit_strings(text, edits_of)
            self._in_strings += inner
            self.may_change_again |= bool(outer)
            return outer

        return edits

    def _cut_end_markers(self) -> bool:
        texts = [text for text in self._texts.values() if end_markers.may_hold(text)]
        if not texts or end_markers.are_mentioned(texts) or self._subject.is_tokenizer:
            return False
        if self._subject.is_tokens and not all(map(end_markers.are_glued_to_text, texts)):
            return False
        are_tags = any("</s>" in text for text in texts) and self._subject.is_markup
        del self._subject
        return self._round(_outside_json(lambda text: end_markers.edits_of(text, are_tags)), end_markers.may_hold)

    def _remove_markup(self) -> None:
        if _calls_tools(self._row) or not markup.is_all_markup(self._texts.values()):
            return
        if (
            self._subject.is_markup
            or self._subject.is_tokens
            or self._is_code
            or markup.is_used_by_the_row(self._texts)
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
                self._apply(name, edits)
                self.may_change_again = True
        self._round(self._inside_json(lambda text: markup.edits_of(text) or []), markup.may_hold)

    def _strip(self) -> None:
        """Strips the texts unless their white space is meaningful; the preferred and the rejected answer are treated alike."""
        row = {**self._row, **{name: self._texts[name] for name in TEXT_FIELDS}}
        is_about_layout = self._subject.is_layout
        keeps_space = is_about_layout or layout.is_laid_out(row) or self._is_code
        are_labels = keeps_space and not is_about_layout and layout.are_labels(row)
        if are_labels:  # the answers are stripped, so their white space says nothing about the other texts
            keeps_space = layout.is_laid_out({**row, **{name: row[name].strip() for name in _ANSWERS}}) or self._is_code
        for name, text in self._texts.items():
            if not keeps_space or (are_labels and name in _ANSWERS):
                first = len(text) - len(text.lstrip())
                last = max(len(text.rstrip()), first)
                if first or last < len(text):
                    self._apply(name, [*white_space(text, 0, first), *white_space(text, last, len(text))])


def _outside_json(edits_of: Edits) -> Edits:
    return lambda text: [] if json_strings.is_json(text) else edits_of(text)


def _calls_tools(row: Mapping[str, Any]) -> bool:
    """Does the row call tools? Arguments and answers of tools are data for a program, markup included."""
    return bool(row["tools"]) or '["tool' in row["history"] or row["output"].startswith('[{"arguments":')
