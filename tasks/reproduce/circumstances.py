"""How this machine differs from the one that made the version: equal weights are promised for the same type of machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {"system": "system", "processor": "processor", "gpus": "GPU"}
"""Facts of a receipt's `hardware` that may change the last bits of a number, and their names in a line."""


def machine_differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Lines such as `processor: here A, in the receipt B`."""
    lines = []
    for fact, name in NAMES.items():
        if fact in recorded and recorded[fact] != now.get(fact):
            lines.append(f"{name}: here {_text(now.get(fact))}, in the receipt {_text(recorded[fact])}")
    return tuple(lines)


def unrecorded(receipt: Mapping[str, Any]) -> list[str]:
    """What an older receipt does not record, as notes."""
    environment = receipt.get("environment") or {}
    facts = {
        "the machine": receipt.get("hardware"),
        "the Python version": environment.get("python"),
        "the number of threads": receipt.get("threads"),
    }
    missing = [name for name, value in facts.items() if not value]
    return [f"the receipt does not record {', '.join(missing)}: those of now were used"] if missing else []


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value else "none"
