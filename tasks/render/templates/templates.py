"""Instruction templates (data/templates/<family>.yaml): how a row is said to the model, and how its answer is read back.

A template is rendered strictly, in Jinja's sandbox: an undefined variable is an error that names template and field. Pure, but
for reading the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from tasks import paths
from tasks.errors import ConfigError, StropError
from tasks.records.languages import language_of_last_turn
from tasks.runtime.bounded_jinja.environment import BoundedEnvironment, has_loops
from tasks.runtime.bounded_jinja.steps import begin
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import why_unreadable
from tasks.scoring.answer_parsers import entries_of, json_of
from tasks.scoring.metrics import answer_kinds
from tasks.scoring.targets import Frame

FIELDS = ("family", "language", "system", "instruction", "input", "output")
"""What a template may name; `output` in its answer alone, for it is not there when the model is served."""

AS_IT_IS = "{{ output }}"
_ENVIRONMENT = BoundedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_ENVIRONMENT.filters["parsed"] = json.loads
_GLOBALS = dict(_ENVIRONMENT.globals)
_LOOPING: WeakSet[Template] = WeakSet()
"""Templates that may write more than once what they are given."""
_MARK = "\ue000"
_AS_INGESTED: dict[str, dict[str, Any]] = {
    "entities": {"type": "PER", "text": "Ann", "start": 0, "end": 3},
    "relation": {"head": "Ann", "relation": "lives in", "tail": "Paris"},
}
"""Kinds of target that rows may bring in forms of their own, and an entry of the form that templates are written for."""


@dataclass(frozen=True)
class InstructionTemplate:
    id: str
    language: str
    user: Template
    answer: Template
    frame: Frame
    """The constant text that `answer` writes around the row's output."""
    source: tuple[str, str]
    """`user` and `answer` as the file says them."""
    kind: str
    """Its family's."""
    system: str = ""
    """The system turn of a row that has none of its own; a constant text."""


@dataclass(frozen=True)
class FamilyTemplates:
    family: str
    kind: str
    templates: tuple[InstructionTemplate, ...]

    def choose(self, row: Mapping[str, Any]) -> InstructionTemplate:
        """The row's template: one of its language (or, where there is none, of any), by the row id. A mixed row's is that of
        the last turn that a person wrote."""
        language = language_of_last_turn(row)
        fitting = [t for t in self.templates if t.language == language] or list(self.templates)
        return fitting[int(str(row["row_id"])[:8], 16) % len(fitting)]

    def told(self) -> dict[str, Any]:
        """As it travels with the model."""
        entries = [
            {"id": t.id, "language": t.language, "user": t.source[0], "answer": t.source[1]}
            | ({"system": t.system} if t.system else {})
            for t in self.templates
        ]
        return {"kind": self.kind, "templates": entries}


def write_question(template: InstructionTemplate, row: Mapping[str, Any]) -> str:
    """What the user says.

    Raises:
        ConfigError: the template names a field that there is not, or does what the sandbox forbids.
    """
    return _written(template, template.user, row, FIELDS[:-1])


def write_answer(template: InstructionTemplate, row: Mapping[str, Any]) -> str:
    """What the assistant is to answer. Where the template makes it of JSON and the row's output is none, or says neither
    entities nor triples, it is the output as it is.

    Raises:
        ConfigError: as for `write_question`.
    """
    if template.source[1] == AS_IT_IS:
        return str(row["output"])
    try:
        answer = _rendered(template.answer, {name: row[name] for name in FIELDS})
    except (ValueError, RecursionError):
        return str(row["output"])
    except SecurityError as error:
        raise _mistake(template, row, error) from error
    except (UndefinedError, TypeError) as error:
        if template.kind not in _AS_INGESTED or (told := _answer_otherwise(template, row)) is None:
            raise _mistake(template, row, error) from error
        answer = told
    # JSON may hold half a character, and no tokenizer reads one
    return str(row["output"]) if "\\u" in row["output"] and not _is_whole(answer) else answer


def _answer_otherwise(template: InstructionTemplate, row: Mapping[str, Any]) -> str | None:
    """The answer of a row whose output the template cannot write as it is; None where the fault is the template's."""
    fields, usual = {name: row[name] for name in FIELDS}, _AS_INGESTED[template.kind]
    value = json_of(row["output"])
    entries = entries_of(template.kind, value)
    if entries and isinstance(value, list) and all(isinstance(one, dict) and set(usual) <= set(one) for one in value):
        return None
    if entries is not None:
        written = _if_written(template, {**fields, "output": json.dumps(entries, ensure_ascii=False)})
        if written is not None:
            return written
    usually = (_if_written(template, {**fields, "output": json.dumps(some)}) for some in ([usual], []))
    return None if None in usually else str(row["output"])


def _if_written(template: InstructionTemplate, fields: dict[str, Any]) -> str | None:
    try:
        return _rendered(template.answer, fields)
    except (UndefinedError, TypeError, ValueError):
        return None


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _written(template: InstructionTemplate, part: Template, row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    try:
        return _rendered(part, {name: row[name] for name in names})
    except (UndefinedError, SecurityError, TypeError, RecursionError) as error:
        raise _mistake(template, row, error) from error


def _mistake(template: InstructionTemplate, row: Mapping[str, Any], error: Exception) -> ConfigError:
    return ConfigError(
        f"template {template.id}: {error}; a template may name {', '.join(FIELDS)} (row {row['row_id']})",
        where=str(paths.TEMPLATES / f"{row['family']}.yaml"),
        fix="Mend the template",
    )


def _rendered(template: Template, fields: dict[str, Any]) -> str:
    """As `template.render(fields)`, which makes a context anew each time: more than half of its work."""
    context = _context(template)
    context.vars.clear()  # what the template has set
    context.exported_vars.clear()
    context.parent.update(fields)
    begin(context)
    join = _join(template)
    try:
        return join(template.root_render_func(context))
    except BaseException:
        _context.cache_clear()  # it may have stopped within a block that changes how texts are escaped
        raise


@lru_cache(maxsize=1024)
def _join(template: Template) -> Callable[[Iterable[str]], str]:
    """How its pieces become a text: what loops is measured meanwhile, the rest cannot grow."""
    return _ENVIRONMENT.concat if template in _LOOPING else "".join


@lru_cache(maxsize=1024)
def _context(template: Template) -> Context:
    """A context of its own for each template, which is always given the same fields."""
    return template.new_context(dict(_GLOBALS), shared=True)


def read_templates(folder: Path = paths.TEMPLATES) -> dict[str, FamilyTemplates]:
    """Family → its templates, from every data/templates/<family>.yaml.

    Raises:
        ConfigError: a file is no template file; all mistakes of all files are listed.
    """
    families: dict[str, FamilyTemplates] = {}
    mistakes: list[tuple[str, str]] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            families[path.stem] = _parse(path.stem, load_yaml(path.read_text(encoding="utf-8-sig")))
        except ValueError as error:
            mistakes.append((str(path), why_unreadable(error, path)))
        except StropError as error:
            mistakes.append((str(path), error.what))
    if mistakes:
        lines = [f"{path}: {what}" for path, what in mistakes]
        what = "\n  ".join([f"{len(mistakes)} template files are wrong:", *lines])
        raise ConfigError(what, where=str(folder), fix="Mend them", parts=mistakes)
    return families


def _parse(family: str, document: Any) -> FamilyTemplates:
    if not isinstance(document, dict) or document.get("kind") not in answer_kinds():
        raise ConfigError(f"`kind` must be one of {', '.join(answer_kinds())}")
    entries = document.get("templates")
    if not isinstance(entries, list) or not entries:
        raise ConfigError("`templates` must list at least one template")
    if unknown := sorted(set(document) - {"kind", "templates"}):
        raise ConfigError(f"no such key: {', '.join(unknown)}; there are kind and templates")
    return FamilyTemplates(family, document["kind"], tuple(_parse_entry(entry, document["kind"]) for entry in entries))


def _parse_entry(entry: Any, kind: str) -> InstructionTemplate:
    known = {"id", "language", "system", "user", "answer"}
    if not isinstance(entry, dict) or not {"id", "language", "user"} <= set(entry) <= known:
        raise ConfigError(f"a template has id, language, user and perhaps system and answer, not {entry!r}"[:300])
    user, answer = str(entry["user"]), str(entry.get("answer", AS_IT_IS))
    try:
        templates = _compiled(user), _compiled(answer)
        if "output" in _named(user):
            raise ConfigError(
                f"template {entry['id']}: `user` names output, which is not there when the model is served"
            )
    except (TemplateSyntaxError, SecurityError) as error:
        raise ConfigError(f"template {entry['id']}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"template {entry['id']}: it is nested too deeply") from error
    named, system = (str(entry["id"]), str(entry["language"])), str(entry.get("system", ""))
    return InstructionTemplate(*named, *templates, _frame(answer), (user, answer), kind, system)


@lru_cache(maxsize=1024)
def _compiled(source: str) -> Template:
    template = _ENVIRONMENT.from_string(source)
    if has_loops(_ENVIRONMENT, source):
        _LOOPING.add(template)
    return template


@lru_cache(maxsize=1024)
def _named(text: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(text)))


@lru_cache(maxsize=1024)
def _frame(answer: str) -> Frame:
    """What stands around `{{ output }}`; nothing where the answer is made otherwise."""
    if _named(answer) != {"output"}:
        return Frame()
    try:
        written = _ENVIRONMENT.from_string(answer).render(output=_MARK)
    except (UndefinedError, SecurityError, TypeError, ValueError):
        return Frame()
    before, mark, after = written.partition(_MARK)
    return Frame(before, after) if mark and _MARK not in after else Frame()
