"""Labels that a Hugging Face dataset stores as numbers → their names.

The names are in the features of a saved dataset, and in the metadata of a Parquet file that `datasets` wrote. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Names = Callable[[Any], Any]
"""A column's value → the value with names in place of numbers."""

_LISTS = ("Sequence", "List", "LargeList")


def features_of(schema: Any) -> dict[str, Any]:
    """The features in an Arrow schema's metadata; empty if `datasets` did not write it."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def label_names(features: dict[str, Any]) -> dict[str, Names]:
    """Column → conversion of its values, for columns with labels at any depth."""
    conversions = {column: _names_of(feature) for column, feature in features.items()}
    return {column: names for column, names in conversions.items() if names is not None}


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
            return _of_struct({name: {"_type": "List", "feature": feature} for name, feature in inner.items()})
        return _of_list(_names_of(inner))
    return None if isinstance(kind, str) else _of_struct(feature)


def _of_labels(names: list[str]) -> Names:
    def convert(value: Any) -> Any:
        if not isinstance(value, int) or value == -1:  # -1: not labelled
            return None if isinstance(value, int) else value
        if not 0 <= value < len(names):
            raise ValueError(f"label {value}, where there are {len(names)} names")
        return names[value]

    return convert


def _of_list(inner: Names | None) -> Names | None:
    if inner is None:
        return None
    return lambda value: [inner(element) for element in value] if isinstance(value, list) else value


def _of_struct(features: dict[str, Any]) -> Names | None:
    conversions = label_names(features)
    if not conversions:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return [convert(element) for element in value] if isinstance(value, list) else value
        return value | {name: names(value[name]) for name, names in conversions.items() if name in value}

    return convert
