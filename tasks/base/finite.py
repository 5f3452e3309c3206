"""Checks a model's weights for NaN and infinity, when a training fails with NaN: then the base is at fault, not the rows."""

from __future__ import annotations

from pathlib import Path


def first_not_finite(folder: Path) -> str | None:
    """The first tensor in a model folder that holds NaN or infinity; None where all are finite."""
    import torch
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  it is not a dictionary
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                    return str(name)
    return None
