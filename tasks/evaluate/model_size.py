"""The size of a model, from the headers of its files, without loading it: `size` in metrics.json."""

from __future__ import annotations

import math
from pathlib import Path

from tasks.base.convert import base_folder
from tasks.base.load import is_adapter
from tasks.base.pin import BaseRecord
from tasks.base.vocabulary import shapes_in
from tasks.runtime.files import read_json

ADAPTER, WEIGHTS = "adapter_model.safetensors", "model.safetensors"


def model_size(folder: Path | None, record: BaseRecord) -> dict[str, int]:
    """Bytes and parameters of the weights' files (of an adapter: its own, which were trained), and parameters with the base's.

    Args:
        folder: of a trained model; None for the base.
    """
    base = base_folder(record) if folder is None or is_adapter(folder) else None
    own = folder or base
    assert own is not None
    files = _weight_files(own)
    parameters = sum(map(_parameters, files))
    others = sum(map(_parameters, _weight_files(base))) if base and folder else 0
    size = sum(file.stat().st_size for file in files)
    return {"bytes": size, "parameters": parameters, "total_parameters": parameters + others}


def _weight_files(folder: Path) -> list[Path]:
    """The files that are loaded: a snapshot of the hub may have others, such as the weights in a second format."""
    if (single := folder / (ADAPTER if is_adapter(folder) else WEIGHTS)).is_file():
        return [single]
    index = folder / f"{WEIGHTS}.index.json"
    names = read_json(index)["weight_map"].values() if index.is_file() else ()
    return [folder / name for name in sorted(set(names))] or sorted(folder.glob("*.safetensors"))


def _parameters(file: Path) -> int:
    return sum(math.prod(shape) for _, shape in shapes_in(file))
