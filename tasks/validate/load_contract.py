"""data/contract/*.yaml → the contract. Strict: all errors of all files are reported at once, each with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from tasks.validate.contract.errors import ContractError, describe, line_of, nearest
from tasks.validate.rules.rules import CODES

PARTS = ("all", "families")


@dataclass(frozen=True)
class Document:
    """One parsed file, with line numbers."""

    path: Path
    content: Any

    def part(self, name: str) -> Any:
        return self.content.get(name) if isinstance(self.content, dict) else None


def load_contract(path: Path = paths.CONTRACT.parent) -> Contract:
    """Reads and checks the contract.

    Args:
        path: a folder, whose files (*.yaml, *.yml) form one contract, or a file.

    Raises:
        ConfigError: there is no file, one is not YAML, or one is invalid.
    """
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise ConfigError("not found", where=str(path), fix=f"Restore it: git checkout -- {path}")
    documents = [Document(file, _read(file)) for file in files]
    errors = [error for document in documents for error in _misplaced(document)] + list(_declared_twice(documents))
    common = _common(documents)
    errors += [error for document in documents for error in _errors_of(document, common)]
    if errors:
        raise _as_config_error(errors, path, many=len(documents) > 1)
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
        raise ConfigError(why_unreadable(error, path), where=str(path), fix="Correct it at that position") from error


def _common(documents: list[Document]) -> dict[str, Any]:
    """The rules of `all`; empty where it is not a mapping, which `_errors_of` reports."""
    mappings = [part for document in documents if isinstance(part := document.part("all"), dict)]
    return dict(mappings[0]) if mappings else {}


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A family's values: its own override those of `all`; custom rules are concatenated."""
    merged = common | dict(own)
    lists = [rules for rules in (common.get("rules"), own.get("rules")) if isinstance(rules, list)]
    if len(lists) == 2 and all(isinstance(rule, dict) for rule in [*lists[0], *lists[1]]):
        replaced = {rule.get("name") for rule in lists[1]}
        merged["rules"] = [rule for rule in lists[0] if rule.get("name") not in replaced] + list(lists[1])
    return merged


def _parse(values: dict[str, Any]) -> FamilyContract:
    # as JSON, because a strict model takes a list for a tuple there
    return FamilyContract.model_validate_json(json.dumps(values, default=str))


def _misplaced(document: Document) -> Iterator[ContractError]:
    """Keys that a file may not have, and parts of the wrong type."""
    path, content = document.path, document.content
    if not isinstance(content, dict):
        yield path, 1, "it should be a mapping with `all:` and `families:`"
        return
    for key in (key for key in content if key not in PARTS):
        what = f"`{key}` is not a part of a contract; {nearest(str(key), list(PARTS))}"
        yield path, line_of(content, [key]), what
    if not isinstance(document.part("families") or {}, dict):
        yield path, line_of(content, ["families"]), "`families` should be a mapping: family → its rules"


def _declared_twice(documents: list[Document]) -> Iterator[ContractError]:
    """Families, and `all`, that two files define: which one applies would be a guess."""
    first: dict[tuple[str, ...], Document] = {}
    for document in documents:
        families = document.part("families")
        keys = [("families", name) for name in families] if isinstance(families, dict) else []
        for key in [("all",), *keys] if document.part("all") is not None else keys:
            if key in first:
                line = line_of(document.content, list(key))
                other = first[key]
                where = f"{other.path.name} line {line_of(other.content, list(key))}"
                yield document.path, line, f"`{'.'.join(key)}` is defined in {where} already; keep one of them"
            first.setdefault(key, document)


def _errors_of(document: Document, common: dict[str, Any]) -> Iterator[ContractError]:
    """Every invalid bound and rule of a file."""
    parts: list[tuple[list[Any], Any]] = []
    if document.part("all") is not None:
        parts.append((["all"], document.part("all")))
    families = document.part("families")
    if isinstance(families, dict):
        parts += [(["families", name], own or {}) for name, own in families.items()]
    is_common_valid = not _errors_in(common)
    for location, values in parts:
        if not isinstance(values, dict):
            line = line_of(document.content, location)
            yield document.path, line, f"`{'.'.join(map(str, location))}` should be a mapping: rule → bound"
            continue
        # of two bounds that contradict each other, one may be in `all` and one in the family
        whole = _merged(common, values) if is_common_valid and location != ["all"] else dict(values)
        for error in _errors_in(whole):
            yield document.path, *describe(error, document.content, location)
        yield from _name_clashes(document, location, values)


def _errors_in(values: dict[str, Any]) -> list[Any]:
    try:
        _parse(values)
    except ValidationError as error:
        return list(error.errors())
    return []


def _name_clashes(document: Document, location: list[Any], values: dict[str, Any]) -> Iterator[ContractError]:
    """Custom rules with the name of a built-in rule or of another custom rule: the name is a row's reason code."""
    seen: set[Any] = set()
    rules = values.get("rules")
    for number, rule in enumerate(rules if isinstance(rules, list) else []):
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str):
            continue
        line = line_of(document.content, [*location, "rules", number, "name"])
        if name in CODES:
            yield document.path, line, f"rule `{name}` has the name of a built-in rule; rename it"
        if name in seen:
            yield document.path, line, f"rule `{name}` is defined twice; rename one of them"
        seen.add(name)


def _as_config_error(errors: list[ContractError], path: Path, many: bool) -> ConfigError:
    distinct = sorted({(str(file) if many else "", line, what) for file, line, what in errors})
    lines = "".join(f"\n  {f'{Path(file).name} ' if file else ''}line {line}: {what}" for file, line, what in distinct)
    return ConfigError(
        f"{count_of(len(distinct), 'error')}:{lines}\n",
        where=str(path),
        fix="The file's comments explain each key",
        parts=sorted({(f"{file} line {line}", what) for file, line, what in errors}),
    )
