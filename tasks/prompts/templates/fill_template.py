"""Fills in an instruction template: the question and the answer of a row. Pure.

A template is rendered strictly, in Jinja's sandbox: an undefined variable is an error that names template and field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from tasks import paths
from tasks.errors import ConfigError
from tasks.prompts.templates.templates import AS_IT_IS, ENVIRONMENT, FIELDS, LOOPING, InstructionTemplate
from tasks.runtime.bounded_jinja.steps import begin
from tasks.scoring.answer_parsers import entries_of, json_of

_GLOBALS = dict(ENVIRONMENT.globals)
_AS_INGESTED: dict[str, dict[str, Any]] = {
    "entities": {"type": "PER", "text": "Ann", "start": 0, "end": 3},
    "relation": {"head": "Ann", "relation": "lives in", "tail": "Paris"},
}
"""Kind of target that rows may have in forms of their own → an entry of the form that templates expect."""


def write_question(template: InstructionTemplate, row: Mapping[str, Any]) -> str:
    """The user's message.

    Raises:
        ConfigError: the template names an unknown field, or does something that the sandbox forbids.
    """
    try:
        return _render(template.user, {name: row[name] for name in FIELDS[:-1]})
    except (UndefinedError, SecurityError, TypeError, RecursionError) as error:
        raise _template_error(template, row, error) from error


def write_answer(template: InstructionTemplate, row: Mapping[str, Any]) -> str:
    """The assistant's answer. Where the template builds it from JSON, and the row's output is not JSON or holds neither entities
    nor triples, it is the output unchanged.

    Raises:
        ConfigError: as for `write_question`.
    """
    if template.source[1] == AS_IT_IS:
        return str(row["output"])
    try:
        answer = _render(template.answer, {name: row[name] for name in FIELDS})
    except (ValueError, RecursionError):
        return str(row["output"])
    except SecurityError as error:
        raise _template_error(template, row, error) from error
    except (UndefinedError, TypeError) as error:
        if template.kind not in _AS_INGESTED or (fallback := _fallback_answer(template, row)) is None:
            raise _template_error(template, row, error) from error
        answer = fallback
    # JSON may hold a lone surrogate, which no tokenizer accepts
    return str(row["output"]) if "\\u" in row["output"] and not _has_no_surrogate(answer) else answer


def _fallback_answer(template: InstructionTemplate, row: Mapping[str, Any]) -> str | None:
    """The answer of a row whose output the template cannot write; None where the template is at fault."""
    fields, expected = {name: row[name] for name in FIELDS}, _AS_INGESTED[template.kind]
    value = json_of(row["output"])
    entries = entries_of(template.kind, value)
    if entries and isinstance(value, list) and all(isinstance(e, dict) and set(expected) <= set(e) for e in value):
        return None
    if entries is not None:
        answer = _try_answer(template, {**fields, "output": json.dumps(entries, ensure_ascii=False)})
        if answer is not None:
            return answer
    with_expected = (_try_answer(template, {**fields, "output": json.dumps(output)}) for output in ([expected], []))
    return None if None in with_expected else str(row["output"])


def _try_answer(template: InstructionTemplate, fields: dict[str, Any]) -> str | None:
    try:
        return _render(template.answer, fields)
    except (UndefinedError, TypeError, ValueError):
        return None


def _has_no_surrogate(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _template_error(template: InstructionTemplate, row: Mapping[str, Any], error: Exception) -> ConfigError:
    return ConfigError(
        f"template {template.id}: {error}; a template may name {', '.join(FIELDS)} (row {row['row_id']})",
        where=str(paths.TEMPLATES / f"{row['family']}.yaml"),
        fix="Correct the template",
    )


def _render(template: Template, fields: dict[str, Any]) -> str:
    """Equals `template.render(fields)`, which would create a context each time: more than half of its cost."""
    context = _context(template)
    context.vars.clear()  # variables that the template set
    context.exported_vars.clear()
    context.parent.update(fields)
    begin(context)
    join = _join(template)
    try:
        return join(template.root_render_func(context))
    except BaseException:
        _context.cache_clear()  # the error may be within a block that changes how texts are escaped
        raise


@lru_cache(maxsize=1024)
def _join(template: Template) -> Callable[[Iterable[str]], str]:
    """The function that joins its pieces: the output of a template with loops is bounded, others cannot grow."""
    return ENVIRONMENT.concat if template in LOOPING else "".join


@lru_cache(maxsize=1024)
def _context(template: Template) -> Context:
    """One context per template, which always gets the same fields."""
    return template.new_context(dict(_GLOBALS), shared=True)
