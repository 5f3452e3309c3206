"""Instruction templates (data/templates/<family>.yaml): a row's question and answer, and how an answer is parsed.

Pure, except for reading the files. fill_template.py fills a template in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, meta
from jinja2.exceptions import SecurityError

from tasks import paths
from tasks.errors import ConfigError, StropError
from tasks.records.languages import language_of_last_turn
from tasks.runtime.bounded_jinja.environment import BoundedEnvironment, has_loops
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import why_unreadable
from tasks.runtime.plurals import count_of
from tasks.scoring.metrics import answer_kinds
from tasks.scoring.targets import Frame

FIELDS = ("family", "language", "system", "instruction", "input", "output")
"""Fields that a template may name; `output` in `answer` only, since it is unknown when the model is served."""

AS_IT_IS = "{{ output }}"
ENVIRONMENT = BoundedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
ENVIRONMENT.filters["parsed"] = json.loads
LOOPING: WeakSet[Template] = WeakSet()
"""Templates with loops, whose output may be longer than their fields."""
_PLACEHOLDER = "\ue000"


@dataclass(frozen=True)
class InstructionTemplate:
    id: str
    language: str
    user: Template
    answer: Template
    frame: Frame
    """The constant text that `answer` writes around the row's output."""
    source: tuple[str, str]
    """`user` and `answer` as written in the file."""
    kind: str
    """The kind of the family."""
    system: str = ""
    """The system turn of a row without one; a constant text."""


@dataclass(frozen=True)
class FamilyTemplates:
    family: str
    kind: str
    templates: tuple[InstructionTemplate, ...]

    def choose(self, row: Mapping[str, Any]) -> InstructionTemplate:
        """The row's template, chosen by its id among those of its language (any, where there is none). The language of a mixed row
        is that of the user's last turn."""
        language = language_of_last_turn(row)
        fitting = [t for t in self.templates if t.language == language] or list(self.templates)
        return fitting[int(str(row["row_id"])[:8], 16) % len(fitting)]

    def as_dict(self) -> dict[str, Any]:
        """As stored with the model."""
        entries = [
            {"id": t.id, "language": t.language, "user": t.source[0], "answer": t.source[1]}
            | ({"system": t.system} if t.system else {})
            for t in self.templates
        ]
        return {"kind": self.kind, "templates": entries}


def read_templates(folder: Path = paths.TEMPLATES) -> dict[str, FamilyTemplates]:
    """Family → its templates, from every data/templates/<family>.yaml.

    Raises:
        ConfigError: a file is not a valid template file; all errors of all files are listed.
    """
    families: dict[str, FamilyTemplates] = {}
    errors: list[tuple[str, str]] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            families[path.stem] = parse_family(path.stem, load_yaml(path.read_text(encoding="utf-8-sig")))
        except ValueError as error:
            errors.append((str(path), why_unreadable(error, path)))
        except StropError as error:
            errors.append((str(path), error.what))
    if errors:
        lines = [f"{path}: {what}" for path, what in errors]
        what = "\n  ".join([f"{count_of(len(errors), 'invalid template file')}:", *lines])
        raise ConfigError(what, where=str(folder), fix="Correct them", parts=errors)
    return families


def parse_family(family: str, document: Any) -> FamilyTemplates:
    """The templates of a family, from its file or from `FamilyTemplates.as_dict`.

    Raises:
        ConfigError: the document is invalid.
    """
    if not isinstance(document, dict) or document.get("kind") not in answer_kinds():
        raise ConfigError(f"`kind` must be one of {', '.join(answer_kinds())}")
    entries = document.get("templates")
    if not isinstance(entries, list) or not entries:
        raise ConfigError("`templates` must list at least one template")
    if unknown := sorted(set(document) - {"kind", "templates"}):
        raise ConfigError(f"unknown key: {', '.join(unknown)}; the keys are kind and templates")
    return FamilyTemplates(family, document["kind"], tuple(_parse_entry(entry, document["kind"]) for entry in entries))


def _parse_entry(entry: Any, kind: str) -> InstructionTemplate:
    allowed = {"id", "language", "system", "user", "answer"}
    if not isinstance(entry, dict) or not {"id", "language", "user"} <= set(entry) <= allowed:
        raise ConfigError(f"a template has id, language, user and optionally system and answer, not {entry!r}"[:300])
    user, answer = str(entry["user"]), str(entry.get("answer", AS_IT_IS))
    try:
        templates = _compiled(user), _compiled(answer)
        if "output" in _names_in(user):
            raise ConfigError(f"template {entry['id']}: `user` names output, which is unknown when the model is served")
    except (TemplateSyntaxError, SecurityError) as error:
        raise ConfigError(f"template {entry['id']}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"template {entry['id']}: it is nested too deeply") from error
    id_and_language, system = (str(entry["id"]), str(entry["language"])), str(entry.get("system", ""))
    return InstructionTemplate(*id_and_language, *templates, _frame(answer), (user, answer), kind, system)


@lru_cache(maxsize=1024)
def _compiled(source: str) -> Template:
    template = ENVIRONMENT.from_string(source)
    if has_loops(ENVIRONMENT, source):
        LOOPING.add(template)
    return template


@lru_cache(maxsize=1024)
def _names_in(text: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(ENVIRONMENT.parse(text)))


@lru_cache(maxsize=1024)
def _frame(answer: str) -> Frame:
    """The constant text around `{{ output }}`; empty where the answer has another structure."""
    if _names_in(answer) != {"output"}:
        return Frame()
    try:
        filled = ENVIRONMENT.from_string(answer).render(output=_PLACEHOLDER)
    except (UndefinedError, SecurityError, TypeError, ValueError):
        return Frame()
    before, placeholder, after = filled.partition(_PLACEHOLDER)
    return Frame(before, after) if placeholder and _PLACEHOLDER not in after else Frame()
