"""Recipes `paraphrase` and `back_translation`: a field of a collected row in other words; the rest of the row is unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any

from tasks.build.answers import CachedGenerator
from tasks.build.generator import CutOff
from tasks.build.refusals import refuse_paraphrase
from tasks.build.row_collector import RowCollector
from tasks.build.settings import Recipe
from tasks.records.languages import MIXED
from tasks.records.row import NO_TEXT
from tasks.records.segmentation import language_of, normalise

BATCH = 64
"""Texts reworded in one call."""

Row = dict[str, Any]
Reword = Callable[[Sequence[str], Sequence[str]], list[str]]
"""Texts and their languages → as many reworded texts."""

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


def generate_rows(
    recipe: Recipe, parents: Iterable[Row], reword: Reword, collector: RowCollector, advance: Callable[[int], None]
) -> None:
    """Adds up to `recipe.rows` rows to `collector`: `recipe.copies` of each parent.

    Raises:
        StropError: raised by the generator or translator; the earlier answers are stored.
    """
    repeated = _repeated_parents(recipe, parents, collector)
    while not collector.is_full and (batch := list(islice(repeated, min(BATCH, recipe.rows - len(collector.rows))))):
        before = len(collector.rows)
        texts = reword([row[recipe.field] for row in batch], [_language_of(row, recipe.field) for row in batch])
        for row, text in zip(batch, texts, strict=True):
            if isinstance(text, CutOff):
                collector.refuse("cut_off")
            else:
                _add(recipe, row, clean_text(text, row[recipe.field]), collector)
        advance(len(collector.rows) - before)


def _language_of(row: Row, field: str) -> str:
    """The row's language; the text's own if the row's turns are in several."""
    return language_of(row[field]) if row["language"] == MIXED else str(row["language"])


def _repeated_parents(recipe: Recipe, parents: Iterable[Row], collector: RowCollector) -> Iterator[Row]:
    """The parents, each `copies` times; one without text in the field is refused."""
    for row in parents:
        if row[recipe.field].strip():
            yield from repeat(row, recipe.copies)
        else:
            collector.refuse(f"no_{recipe.field}")


def paraphraser(generator: CachedGenerator) -> Reword:
    """Rewords by a prompt for paraphrases."""

    def reword(texts: Sequence[str], languages: Sequence[str]) -> list[str]:
        prompts = [_PARAPHRASE[language].format(text=text) for text, language in zip(texts, languages, strict=True)]
        return generator.complete(prompts)

    return reword


def back_translator(through: str, translate: Callable[[Sequence[str], str], list[str]]) -> Reword:
    """Rewords by translation into `through`, and back into each text's own language. `translate` returns as many texts."""

    def reword(texts: Sequence[str], languages: Sequence[str]) -> list[str]:
        translated = translate(texts, through)
        back = list(translated)
        for language in sorted(set(languages)):
            indices = [index for index, of_text in enumerate(languages) if of_text == language]
            indices = [index for index in indices if not isinstance(translated[index], CutOff)]
            for index, text in zip(indices, translate([translated[i] for i in indices], language), strict=True):
                back[index] = text
        return back

    return reword


def prompted_translator(generator: CachedGenerator) -> Callable[[Sequence[str], str], list[str]]:
    """Translates by a prompt."""

    def translate(texts: Sequence[str], to_language: str) -> list[str]:
        language = _NAMES.get(to_language, to_language)
        answers = generator.complete([_TRANSLATE.format(language=language, text=text) for text in texts])
        return [
            text if isinstance(text, CutOff) else clean_text(text, original)
            for text, original in zip(answers, texts, strict=True)
        ]

    return translate


def clean_text(answer: str, original: str) -> str:
    """A model's answer without a label before it and quotation marks around it that the original does not have."""
    text = answer.strip()
    if not _LABEL.match(original):
        text = _LABEL.sub("", text).strip()
    if len(text) >= 2 and _QUOTES.get(text[0]) == text[-1] and original.strip()[:1] != text[0]:
        text = text[1:-1].strip()
    return text


def _add(recipe: Recipe, row: Row, text: str, collector: RowCollector) -> None:
    if (reason := refuse_paraphrase(text, row[recipe.field])) is not None:
        collector.refuse(reason)
        return
    if normalise(text) == normalise(row["output"]):  # the model answered instead of rewording
        collector.refuse("is_the_answer")
        return
    collector.add({**{name: row[name] for name in NO_TEXT}, recipe.field: text}, [row["row_id"]])
