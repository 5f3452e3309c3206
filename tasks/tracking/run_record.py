"""What the MLflow run of a candidate holds, as its receipt says: `register` writes it, the audit compares with it."""

from __future__ import annotations

from typing import Any

LONGEST_PARAM = 6000
"""MLflow keeps so many characters of a parameter."""


def params_of(receipt: dict[str, Any]) -> dict[str, Any]:
    """The settings by dotted key. Those of sources say where data came from, not how the model was made."""
    return flat({key: value for key, value in receipt["params"].items() if key != "ingest"})


def numbers_of(metrics: dict[str, Any]) -> dict[str, float]:
    """The scores of each model, overall and a family: `candidate/topic/score`."""
    found: dict[str, float] = {}
    for role, model in metrics.get("models", {}).items():
        slices = {"overall": model.get("overall"), **(model.get("families") or {})}
        for name, values in slices.items():
            for key, value in (values or {}).items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    found[f"{role}/{name}/{key}"] = float(value)
        if isinstance(perplexity := model.get("valid_perplexity"), int | float):
            found[f"{role}/valid_perplexity"] = float(perplexity)
        for name, values in (model.get("valid_losses") or {}).items():
            found[f"{role}/{name}/valid_loss"] = float(values["loss"])
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
