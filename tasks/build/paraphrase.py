"""Recipes `paraphrase` and `back_translation`: a held row's text in other words; the rest, and the answer, stay its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any

from tasks.build.answers import Answers
from tasks.build.generator import CutOff
from tasks.build.refusals import refuse_paraphrase
from tasks.build.row_collector import Made
from tasks.build.settings import Recipe
from tasks.records.languages import MIXED
from tasks.records.row import NO_TEXT
from tasks.records.segmentation import language_of, normalise

AT_ONCE = 64
"""Texts that are asked for between two looks at how many rows there are."""

Row = dict[str, Any]
Reword = Callable[[Sequence[str], Sequence[str]], list[str]]
"""Texts and their languages → as many texts in other words."""

_PARAPHRASE = {
    "en": "Rewrite the text below so that it says the same in other words. Keep every number, every name and every quoted "
    "part as it is. Answer with the rewritten text alone.\n\nText: {text}",
    "zh": "请用不同的说法改写下面的文本，意思不变。所有数字、名称和引号中的内容保持原样。只回答改写后的文本。\n\n文本：{text}",
}
_TRANSLATE = (
    "Translate the text below into {language}. Keep numbers, names and line breaks. Answer with the translation alone."
    "\n\nText: {text}"
)
_NAMES = {"en": "English", "zh": "Chinese (中文)"}
_LABEL = re.compile(
    r"^(?:(?:rewritten text|paraphrase|rewritten|translation|text|改写后的文本|改写|译文|翻译|文本)\s*[:：]\s*)",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "「": "」", "'": "'"}


def make(recipe: Recipe, parents: Iterable[Row], reword: Reword, made: Made, advance: Callable[[int], None]) -> None:
    """Adds up to `recipe.rows` rows to `made`: `recipe.copies` of each parent.

    Raises:
        StropError: the generator's or translator's; what was answered is kept.
    """
    asked = _asked(recipe, parents, made)
    while not made.is_enough and (batch := list(islice(asked, min(AT_ONCE, recipe.rows - len(made.rows))))):
        before = len(made.rows)
        said = reword([row[recipe.field] for row in batch], [_language_of(row, recipe.field) for row in batch])
        for row, text in zip(batch, said, strict=True):
            if isinstance(text, CutOff):
                made.refuse("cut_off")
            else:
                _add(recipe, row, tidy(text, row[recipe.field]), made)
        advance(len(made.rows) - before)


def _language_of(row: Row, field: str) -> str:
    """Of the text itself, where the row's turns are in several."""
    return language_of(row[field]) if row["language"] == MIXED else str(row["language"])


def _asked(recipe: Recipe, parents: Iterable[Row], made: Made) -> Iterator[Row]:
    """The parents, each as often as it is asked for; one that has nothing to reword is refused."""
    for row in parents:
        if row[recipe.field].strip():
            yield from repeat(row, recipe.copies)
        else:
            made.refuse(f"no_{recipe.field}")


def paraphraser(answers: Answers) -> Reword:
    """Asks the generator to say it in other words."""

    def reword(texts: Sequence[str], languages: Sequence[str]) -> list[str]:
        prompts = [_PARAPHRASE[language].format(text=text) for text, language in zip(texts, languages, strict=True)]
        return answers.complete(prompts)

    return reword


def back_translator(through: str, translate: Callable[[Sequence[str], str], list[str]]) -> Reword:
    """There and back: into `through`, and from it into each text's own language.

    Args:
        translate: texts and a language → as many texts.
    """

    def reword(texts: Sequence[str], languages: Sequence[str]) -> list[str]:
        there = translate(texts, through)
        back = list(there)
        for language in sorted(set(languages)):
            places = [place for place, each in enumerate(languages) if each == language]
            places = [place for place in places if not isinstance(there[place], CutOff)]
            for place, text in zip(places, translate([there[i] for i in places], language), strict=True):
                back[place] = text
        return back

    return reword


def translate_by(answers: Answers) -> Callable[[Sequence[str], str], list[str]]:
    """Translation by a generator, through a prompt."""

    def translate(texts: Sequence[str], to_language: str) -> list[str]:
        language = _NAMES.get(to_language, to_language)
        said = answers.complete([_TRANSLATE.format(language=language, text=text) for text in texts])
        return [
            text if isinstance(text, CutOff) else tidy(text, original)
            for text, original in zip(said, texts, strict=True)
        ]

    return translate


def tidy(said: str, original: str) -> str:
    """What a model wrote, without a label before it and quotation marks around it that the original has not."""
    text = said.strip()
    if not _LABEL.match(original):
        text = _LABEL.sub("", text).strip()
    if len(text) >= 2 and _QUOTES.get(text[0]) == text[-1] and original.strip()[:1] != text[0]:
        text = text[1:-1].strip()
    return text


def _add(recipe: Recipe, row: Row, text: str, made: Made) -> None:
    if (reason := refuse_paraphrase(text, row[recipe.field])) is not None:
        made.refuse(reason)
        return
    if normalise(text) == normalise(row["output"]):  # the model answered instead of rewording
        made.refuse("is_the_answer")
        return
    made.add({**{name: row[name] for name in NO_TEXT}, recipe.field: text}, [row["row_id"]])
