"""The parameters that differ between two versions of params.yaml, by dotted name. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ParameterChange:
    name: str
    """Such as `finetune.lora.rank`, or `ingest.sources[support].path`."""
    first: Any
    """None where it is not set."""
    second: Any


def changed_parameters(first: dict[str, Any], second: dict[str, Any]) -> list[ParameterChange]:
    """Every parameter with another value in the second file, sorted by name."""
    before, after = dict(_flat(first)), dict(_flat(second))
    return [
        ParameterChange(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from _flat_value(value, f"{prefix}{key}")


def _flat_value(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        yield from _flat(value, f"{name}.")
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _flat_value(item, f"{name}[{item.get('name', number)}]")
    else:
        yield name, value
