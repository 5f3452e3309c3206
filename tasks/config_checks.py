"""Checks of params.yaml across sections: names that refer to other files, and values where any is allowed. Pure, except
that it lists data/templates."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import paths

Location = list[Any]
LARGEST = 2**63 - 1
"""The largest integer of torch, numpy and Arrow."""


def errors_in(document: Any, root: Path) -> Iterator[tuple[Location, str]]:
    """(location, text) of every error that the settings of one section cannot detect.

    Args:
        root: the project's folder.
    """
    yield from _values(document, [])
    templates = root / paths.TEMPLATES
    if templates.is_dir():
        yield from _families(document, templates)
        yield from _chat_template(document, root / paths.CHAT_TEMPLATES)


def _values(value: Any, location: Location) -> Iterator[tuple[Location, str]]:
    """Numbers and texts that no library accepts, in all settings: `trainer` and `choices` may contain any value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, [*location, key])
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _values(inner, [*location, index])
    elif isinstance(value, float) and not math.isfinite(value):
        yield location, f"is {value}, but should be a finite number"
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        yield location, "is too large; an integer has at most 63 bits"
    elif isinstance(value, str) and "\0" in value:
        yield location, "contains a NUL character, which no name or path may"


def _families(document: Any, templates: Path) -> Iterator[tuple[Location, str]]:
    known = sorted(path.stem for path in templates.glob("*.yaml"))
    used = [
        *_values_of(document, "ingest", "sources", "family"),
        *_values_of(document, "build", "recipes", "family"),
        *_values_of(document, "render", "balance", "family"),
    ]
    policies = _section(document, "gate").get("families")
    used += [(["gate", "families", name], name) for name in policies] if isinstance(policies, dict) else []
    for location, family in used:
        if isinstance(family, str) and family not in known:
            yield location, _unknown("family", family, known, f"write {paths.TEMPLATES}/{family}.yaml")


def _chat_template(document: Any, folder: Path) -> Iterator[tuple[Location, str]]:
    name = _section(document, "base").get("chat_template", "own")
    known = ["own", *sorted(path.stem for path in folder.glob("*.jinja"))]
    if isinstance(name, str) and name not in known:
        yield (
            ["base", "chat_template"],
            _unknown("chat template", name, known, f"write {paths.CHAT_TEMPLATES}/{name}.jinja"),
        )


def _unknown(what: str, name: str, known: list[str], other: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean `{near[0]}`? Or" if near else f"there are {', '.join(known)}; or"
    return f"is {json.dumps(name, ensure_ascii=False)}, which is not a {what}: {hint} {other}"


def _values_of(document: Any, section: str, entries: str, field: str) -> Iterator[tuple[Location, Any]]:
    values = _section(document, section).get(entries)
    for index, entry in enumerate(values if isinstance(values, list) else []):
        if isinstance(entry, dict) and entry.get(field) is not None:
            yield [section, entries, index, field], entry[field]


def _section(document: Any, name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}
