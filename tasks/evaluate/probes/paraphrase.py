"""Another wording of the same task: another template of the family, or else a sentence around the question. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError

from tasks.evaluate.predictions import Row
from tasks.runtime.bounded_jinja.environment import BoundedEnvironment

FRAMES = {
    "en": (
        "Here is a task for you.\n\n{question}",
        "{question}\n\nPlease reply with the answer only.",
        "I would like your help with the following.\n\n{question}",
    ),
    "zh": ("下面是给你的任务。\n\n{question}", "{question}\n\n请只给出答案。", "请帮我完成下面的内容。\n\n{question}"),
}
_ENVIRONMENT = BoundedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


def paraphrase(row: Row, templates: Sequence[Mapping[str, Any]], language: str, random: Random) -> str:
    """The row's question in another wording.

    Args:
        templates: those of the family, as in data/rendered/templates.json. Another one is used if it has the same language, answer
            and system turn as the row's own, so that the target stays, and the row's own gives the present question: not of a row
            that was shortened.
    """
    question = row["question"]
    own = next((template for template in templates if template["id"] == row["template"]), None)
    if own is not None and _fill(own, row) == question.strip():
        others = [template for template in templates if _is_equivalent(template, own)]
        for template in random.sample(others, len(others)):
            filled = _fill(template, row)
            if filled and filled != question.strip():
                return filled
    return random.choice(FRAMES[language]).format(question=question)


def _is_equivalent(template: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    same = ("language", "answer", "system")
    return template["id"] != own["id"] and all(template.get(name) == own.get(name) for name in same)


def _fill(template: Mapping[str, Any], row: Row) -> str | None:
    fields = {name: row.get(name) or "" for name in ("family", "instruction", "input")}
    try:
        text = _compiled(template["user"]).render(**fields, language=template["language"], system="")
    except (TemplateError, TypeError, RecursionError):
        return None
    return str(text).strip()


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)
