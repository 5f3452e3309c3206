"""What params.yaml names beside itself, and values in places where any may stand: checked as it is read. Pure but for a
look into data/templates."""

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
"""Of the whole numbers that torch, numpy and Arrow compute with."""


def mistakes_in(document: Any, root: Path) -> Iterator[tuple[Location, str]]:
    """Where and what, of everything that one section's settings cannot see.

    Args:
        root: the project's folder.
    """
    yield from _values(document, [])
    templates = root / paths.TEMPLATES
    if templates.is_dir():
        yield from _families(document, templates)
        yield from _chat_template(document, root / paths.CHAT_TEMPLATES)


def _values(value: Any, location: Location) -> Iterator[tuple[Location, str]]:
    """Numbers and texts that no library takes, wherever they stand: `trainer` and `choices` may hold anything."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, [*location, key])
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _values(inner, [*location, place])
    elif isinstance(value, float) and not math.isfinite(value):
        yield location, f"is {value}, but should be a finite number"
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        yield location, "is too large; a whole number has at most 63 bits"
    elif isinstance(value, str) and "\0" in value:
        yield location, "holds a NUL character, which no name or path may"


def _families(document: Any, templates: Path) -> Iterator[tuple[Location, str]]:
    known = sorted(path.stem for path in templates.glob("*.yaml"))
    named = [
        *_named(document, "ingest", "sources", "family"),
        *_named(document, "build", "recipes", "family"),
        *_named(document, "render", "balance", "family"),
    ]
    policies = _section(document, "gate").get("families")
    named += [(["gate", "families", name], name) for name in policies] if isinstance(policies, dict) else []
    for location, family in named:
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
    return f"is {json.dumps(name, ensure_ascii=False)}, which is no {what}: {hint} {other}"


def _named(document: Any, section: str, entries: str, field: str) -> Iterator[tuple[Location, Any]]:
    listed = _section(document, section).get(entries)
    for place, entry in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(entry, dict) and entry.get(field) is not None:
            yield [section, entries, place, field], entry[field]


def _section(document: Any, name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}
