"""data/contract/*.yaml → the contract. Strict: all mistakes of all files at once, each with its line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks import paths
from tasks.errors import ConfigError
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import why_unreadable
from tasks.runtime.plurals import count_of
from tasks.validate.contract.contract import Contract, FamilyContract
from tasks.validate.contract.errors import Mistake, describe, line_of, nearest
from tasks.validate.rules.rules import CODES

PARTS = ("all", "families")


@dataclass(frozen=True)
class Document:
    """One file, as it was read, lines and all."""

    path: Path
    content: Any

    def part(self, name: str) -> Any:
        return self.content.get(name) if isinstance(self.content, dict) else None


def load_contract(place: Path = paths.CONTRACT.parent) -> Contract:
    """Reads and checks the contract.

    Args:
        place: a folder, whose files (*.yaml, *.yml) are one contract together, or a file.

    Raises:
        ConfigError: there is no file, one is no YAML, or one says something that it may not.
    """
    found = sorted([*place.glob("*.yaml"), *place.glob("*.yml")]) if place.is_dir() else [place]
    if not found or not found[0].exists():
        raise ConfigError("not found", where=str(place), fix=f"Bring it back: git checkout -- {place}")
    documents = [Document(path, _read(path)) for path in found]
    mistakes = [mistake for document in documents for mistake in _misplaced(document)] + _said_twice(documents)
    common = _common(documents)
    mistakes += [mistake for document in documents for mistake in _wrong_in(document, common)]
    if mistakes:
        raise _told(mistakes, place, many=len(documents) > 1)
    families = {
        name: _parse(_merged(common, own or {}))
        for document in documents
        for name, own in (document.part("families") or {}).items()
    }
    return Contract(all=_parse(common), families=families)


def _read(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(encoding="utf-8-sig"), "rt") or {}
    except ValueError as error:
        raise ConfigError(why_unreadable(error, path), where=str(path), fix="Mend it at that place") from error


def _common(documents: list[Document]) -> dict[str, Any]:
    """What `all` says; nothing where it is no mapping, which is told elsewhere."""
    said = [part for document in documents if isinstance(part := document.part("all"), dict)]
    return dict(said[0]) if said else {}


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A family's values: its own before those of `all`, but for custom rules, which are added up."""
    merged = common | dict(own)
    lists = [rules for rules in (common.get("rules"), own.get("rules")) if isinstance(rules, list)]
    if len(lists) == 2 and all(isinstance(rule, dict) for rule in [*lists[0], *lists[1]]):
        replaced = {rule.get("name") for rule in lists[1]}
        merged["rules"] = [rule for rule in lists[0] if rule.get("name") not in replaced] + list(lists[1])
    return merged


def _parse(values: dict[str, Any]) -> FamilyContract:
    # as JSON, because a strict model takes a list for a tuple there
    return FamilyContract.model_validate_json(json.dumps(values, default=str))


def _misplaced(document: Document) -> list[Mistake]:
    """What is not where it should be in a file."""
    path, content = document.path, document.content
    if not isinstance(content, dict):
        return [(path, 1, "it should hold `all:` and `families:`")]
    mistakes: list[Mistake] = [
        (path, line_of(content, [key]), f"`{key}` is no part of a contract; {nearest(str(key), list(PARTS))}")
        for key in content
        if key not in PARTS
    ]
    if not isinstance(document.part("families") or {}, dict):
        line = line_of(content, ["families"])
        mistakes.append((path, line, "`families` should be a mapping: family → its rules"))
    return mistakes


def _said_twice(documents: list[Document]) -> list[Mistake]:
    """Families, and `all`, that two files speak of: which would hold, could only be guessed."""
    mistakes: list[Mistake] = []
    first: dict[tuple[str, ...], Document] = {}
    for document in documents:
        families = document.part("families")
        places = [("families", name) for name in families] if isinstance(families, dict) else []
        for place in [("all",), *places] if document.part("all") is not None else places:
            if place in first:
                line = line_of(document.content, list(place))
                other = first[place]
                where = f"{other.path.name} line {line_of(other.content, list(place))}"
                mistakes.append(
                    (document.path, line, f"`{'.'.join(place)}` stands in {where} already; keep one of them")
                )
            first.setdefault(place, document)
    return mistakes


def _wrong_in(document: Document, common: dict[str, Any]) -> list[Mistake]:
    """Every bound and rule of a file that may not be so."""
    parts: list[tuple[list[Any], Any]] = []
    if document.part("all") is not None:
        parts.append((["all"], document.part("all")))
    families = document.part("families")
    if isinstance(families, dict):
        parts += [(["families", name], own or {}) for name, own in families.items()]
    mistakes: list[Mistake] = []
    is_common_good = not _mistakes_in(common)
    for place, values in parts:
        if not isinstance(values, dict):
            line = line_of(document.content, place)
            mistakes.append((document.path, line, f"`{'.'.join(map(str, place))}` should be a mapping: rule → bound"))
            continue
        # bounds that contradict each other may stand one in `all`, one in the family
        found = _mistakes_in(_merged(common, values)) if is_common_good else _mistakes_in(dict(values))
        for each in found if place != ["all"] else _mistakes_in(dict(values)):
            mistakes.append((document.path, *describe(each, document.content, place)))
        mistakes += _wrong_names(document, place, values)
    return mistakes


def _mistakes_in(values: dict[str, Any]) -> list[Any]:
    try:
        _parse(values)
    except ValidationError as error:
        return list(error.errors())
    return []


def _wrong_names(document: Document, place: list[Any], values: dict[str, Any]) -> list[Mistake]:
    """Custom rules that are called like one of ours, or like each other: the name is the reason of a row."""
    mistakes: list[Mistake] = []
    seen: set[Any] = set()
    rules = values.get("rules")
    for number, rule in enumerate(rules if isinstance(rules, list) else []):
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str):
            continue
        line = line_of(document.content, [*place, "rules", number, "name"])
        if name in CODES:
            mistakes.append(
                (document.path, line, f"rule `{name}` is called like one of Strop's own; call it otherwise")
            )
        if name in seen:
            mistakes.append((document.path, line, f"rule `{name}` stands here twice; call one of them otherwise"))
        seen.add(name)
    return mistakes


def _told(mistakes: list[Mistake], place: Path, many: bool) -> ConfigError:
    told = sorted({(str(path) if many else "", line, what) for path, line, what in mistakes})
    lines = "".join(f"\n  {f'{Path(path).name} ' if path else ''}line {line}: {what}" for path, line, what in told)
    return ConfigError(
        f"{count_of(len(told), 'mistake')}:{lines}\n",
        where=str(place),
        fix="The file's comments say what each key means",
        parts=sorted({(f"{path} line {line}", what) for path, line, what in mistakes}),
    )
