"""Labels that a Hugging Face dataset stores as numbers → their names, which stand in its features.

The features come with a saved dataset, and in the metadata of a Parquet file that `datasets` wrote. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Names = Callable[[Any], Any]
"""A column's value → the value with names in the place of numbers."""

_LISTS = ("Sequence", "List", "LargeList")


def features_of(schema: Any) -> dict[str, Any]:
    """The features that an Arrow schema's metadata tell; none where `datasets` did not write it."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def label_names(features: dict[str, Any]) -> dict[str, Names]:
    """Column → how its values get their names, for those columns that hold labels at any depth."""
    found = {column: _names_of(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names is not None}


def _names_of(feature: Any) -> Names | None:
    if isinstance(feature, list):
        return _of_list(_names_of(feature[0])) if len(feature) == 1 else None
    if not isinstance(feature, dict):
        return None
    kind = feature.get("_type")
    if kind == "ClassLabel":
        return _of_labels(feature["names"]) if isinstance(feature.get("names"), list) else None
    if kind in _LISTS:
        inner = feature.get("feature")
        if kind == "Sequence" and isinstance(inner, dict) and not isinstance(inner.get("_type"), str):
            return _of_struct({name: {"_type": "List", "feature": each} for name, each in inner.items()})
        return _of_list(_names_of(inner))
    return None if isinstance(kind, str) else _of_struct(feature)


def _of_labels(names: list[str]) -> Names:
    def named(value: Any) -> Any:
        if not isinstance(value, int) or value == -1:  # -1: not labelled
            return None if isinstance(value, int) else value
        if not 0 <= value < len(names):
            raise ValueError(f"label {value}, where there are {len(names)} names")
        return names[value]

    return named


def _of_list(inner: Names | None) -> Names | None:
    if inner is None:
        return None
    return lambda value: [inner(each) for each in value] if isinstance(value, list) else value


def _of_struct(features: dict[str, Any]) -> Names | None:
    found = label_names(features)
    if not found:
        return None

    def named(value: Any) -> Any:
        if not isinstance(value, dict):
            return [named(each) for each in value] if isinstance(value, list) else value
        return value | {name: names(value[name]) for name, names in found.items() if name in value}

    return named
