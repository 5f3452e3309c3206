"""The size of a model, from the headers of its files, without loading it: `size` in metrics.json."""

from __future__ import annotations

import math
from pathlib import Path

from tasks.base.convert import base_folder
from tasks.base.load import is_adapter
from tasks.base.pin import BaseRecord
from tasks.base.vocabulary import shapes_in


def model_size(folder: Path | None, record: BaseRecord) -> dict[str, int]:
    """Bytes and parameters of the weights' files (of an adapter: its own, which were trained), and parameters with the base's.

    Args:
        folder: of a trained model; None for the base.
    """
    base = base_folder(record) if folder is None or is_adapter(folder) else None
    own = folder or base
    assert own is not None
    files = sorted(own.glob("*.safetensors"))
    parameters = sum(map(_parameters, files))
    others = sum(map(_parameters, sorted(base.glob("*.safetensors")))) if base and folder else 0
    size = sum(file.stat().st_size for file in files)
    return {"bytes": size, "parameters": parameters, "total_parameters": parameters + others}


def _parameters(file: Path) -> int:
    return sum(math.prod(shape) for _, shape in shapes_in(file))
