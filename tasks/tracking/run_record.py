"""What a candidate's MLflow run must hold, from its receipt: `register` writes it, the audit compares with it."""

from __future__ import annotations

from typing import Any

LONGEST_PARAM = 6000
"""MLflow truncates a parameter to this many characters."""


def params_of(receipt: dict[str, Any]) -> dict[str, Any]:
    """The settings by dotted key, without those of sources: they do not describe how the model was trained."""
    return flat({key: value for key, value in receipt["params"].items() if key != "ingest"})


def numbers_of(metrics: dict[str, Any]) -> dict[str, float]:
    """The scores of each model, by family, and overall where all have one metric: `candidate/topic/score`."""
    numbers: dict[str, float] = {}
    for role, model in metrics.get("models", {}).items():
        slices = {"overall": model.get("overall"), **(model.get("families") or {})}
        for name, values in slices.items():
            for key, value in (values or {}).items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    numbers[f"{role}/{name}/{key}"] = float(value)
        if isinstance(perplexity := model.get("valid_perplexity"), int | float):
            numbers[f"{role}/valid_perplexity"] = float(perplexity)
        for name, values in (model.get("valid_losses") or {}).items():
            numbers[f"{role}/{name}/valid_loss"] = float(values["loss"])
    return numbers


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            settings |= flat(value, f"{prefix}{key}.")
        else:
            settings[f"{prefix}{key}"] = value
    return settings
