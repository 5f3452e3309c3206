"""Instruction templates (data/templates/<family>.yaml): a row → the messages that the model is shown. Pure, but for reading.

A template is rendered strictly, in Jinja's sandbox: an undefined variable is an error that names template and field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks import paths
from tasks.errors import ConfigError, StropError

Kind = Literal["classification", "qa", "free"]
KINDS = ("classification", "qa", "free")
FIELDS = ("family", "language", "system", "instruction", "input", "output")
"""What a template may name."""

SPOKEN_BY = {"tool_call": "assistant", "tool": "user"}
"""Turns that a chat template need not know, and as whose they are shown."""

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True)
class InstructionTemplate:
    id: str
    language: str
    user: Template
    answer: Template


@dataclass(frozen=True)
class FamilyTemplates:
    family: str
    kind: Kind
    templates: tuple[InstructionTemplate, ...]

    def choose(self, row: Mapping[str, Any]) -> InstructionTemplate:
        """The row's template: one of its language (or, where there is none, of any), by the row id."""
        fitting = [t for t in self.templates if t.language == row["language"]] or list(self.templates)
        return fitting[int(str(row["row_id"])[:8], 16) % len(fitting)]


def render_messages(template: InstructionTemplate, row: Mapping[str, Any]) -> list[Message]:
    """System turn, earlier turns, the rendered user turn and, last, the assistant's answer.

    Raises:
        ConfigError: the template names a field that there is not, or does what the sandbox forbids.
    """
    fields = {name: row[name] for name in FIELDS}
    messages: list[Message] = [Message(role="system", content=row["system"])] if row["system"] else []
    messages += [Message(role=SPOKEN_BY.get(who, who), content=text) for who, text in json.loads(row["history"])]
    for role, part in (("user", template.user), ("assistant", template.answer)):
        try:
            messages.append(Message(role=role, content=part.render(fields)))
        except (UndefinedError, SecurityError, TypeError) as error:
            raise ConfigError(
                f"template {template.id}: {error}; a template may name {', '.join(FIELDS)}",
                where=str(paths.TEMPLATES / f"{row['family']}.yaml"),
                fix="Mend the template",
            ) from error
    return messages


def read_templates(folder: Path = paths.TEMPLATES) -> dict[str, FamilyTemplates]:
    """Family → its templates, from every data/templates/<family>.yaml.

    Raises:
        ConfigError: a file is no template file; all mistakes of all files are listed.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    families, mistakes = {}, []
    for path in sorted(folder.glob("*.yaml")):
        try:
            families[path.stem] = _parse(path.stem, YAML(typ="safe").load(path.read_text(encoding="utf-8-sig")))
        except (YAMLError, UnicodeDecodeError) as error:
            mistakes.append(f"{path}: not readable as YAML: {' '.join(str(error).split())}")
        except StropError as error:
            mistakes.append(f"{path}: {error.what}")
    if mistakes:
        raise ConfigError(
            "\n  ".join([f"{len(mistakes)} template files are wrong:", *mistakes]), where=str(folder), fix="Mend them"
        )
    return families


def _parse(family: str, document: Any) -> FamilyTemplates:
    if not isinstance(document, dict) or document.get("kind") not in KINDS:
        raise ConfigError(f"`kind` must be one of {', '.join(KINDS)}")
    entries = document.get("templates")
    if not isinstance(entries, list) or not entries:
        raise ConfigError("`templates` must list at least one template")
    if unknown := sorted(set(document) - {"kind", "templates"}):
        raise ConfigError(f"no such key: {', '.join(unknown)}; there are kind and templates")
    return FamilyTemplates(family, document["kind"], tuple(_parse_entry(entry) for entry in entries))


def _parse_entry(entry: Any) -> InstructionTemplate:
    known = {"id", "language", "user", "answer"}
    if not isinstance(entry, dict) or not {"id", "language", "user"} <= set(entry) <= known:
        raise ConfigError(f"a template has id, language, user and perhaps answer, not {entry!r}"[:300])
    try:
        user = _ENVIRONMENT.from_string(str(entry["user"]))
        answer = _ENVIRONMENT.from_string(str(entry.get("answer", "{{ output }}")))
    except TemplateSyntaxError as error:
        raise ConfigError(f"template {entry['id']}: {error}") from error
    return InstructionTemplate(str(entry["id"]), str(entry["language"]), user, answer)
