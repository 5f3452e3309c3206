"""Audit of a logged model's file MLmodel: it names the code that loads the model, and the base of an adapter.

Strop's models need MLflow's own loader and no other code. If no digest of the file was recorded, its content is compared with
what MLflow writes for such a model; every difference is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.audit.digests import Digests
from tasks.base.convert import base_folder
from tasks.base.pin import BaseRecord
from tasks.errors import BaseModelError
from tasks.vcs.dvc_files import parse_yaml

MLMODEL = "MLmodel"
LOADER = "mlflow.transformers"
PYTHON_KEYS = {"env", "loader_module", "python_version"}
TRANSFORMERS_KEYS = {
    *("code", "components", "framework", "inference_task", "instance_type", "local_base_model_path", "model_binary"),
    *("peft_adaptor", "pipeline_model_type", "source_model_name", "task", "torch_dtype", "transformers_version"),
}
"""The keys of MLflow's two flavors, besides those that match COMPONENT_KEY."""
COMPONENT_KEY = re.compile(r"(tokenizer|feature_extractor|image_processor|processor)_type")


def mlmodel_problems(file: Path, base: BaseRecord | None, digests: Digests) -> list[str]:
    """The content that MLflow does not write for one of Strop's models.

    Args:
        base: the base of an adapter; None for a model with full weights.
    """
    try:
        flavors = parse_yaml(file.read_bytes()).get("flavors")
    except (OSError, ValueError) as error:
        return [f"is not readable: {error}"]
    if not isinstance(flavors, dict) or not all(isinstance(flavor, dict) for flavor in flavors.values()):
        return ["has no flavors"]
    return [
        f"has {problem}" for problem in (*_unusual(flavors, base is not None), *_other_base(flavors, base, digests))
    ]


def _unusual(flavors: dict[str, dict[str, Any]], is_adapter: bool) -> Iterator[str]:
    for name in sorted(set(flavors) - {"python_function", "transformers"}, key=str):
        yield f"a flavor {name}"
    python, own = flavors.get("python_function", {}), flavors.get("transformers", {})
    if python.get("loader_module") != LOADER:
        yield f"loader_module {_short(python.get('loader_module'))}, not {LOADER}"
    for key in sorted(set(python) - PYTHON_KEYS, key=str):
        yield f"python_function.{key} {_short(python[key])}"
    for key in sorted(set(own) - TRANSFORMERS_KEYS, key=str):
        if not COMPONENT_KEY.fullmatch(str(key)):
            yield f"transformers.{key} {_short(own[key])}"
    # the keys that decide which code and files are loaded
    kind = (
        {"model_binary": None, "peft_adaptor": "peft"}
        if is_adapter
        else {"model_binary": "model", "peft_adaptor": None}
    )
    for key, value in {"code": None, **kind}.items():
        if own.get(key) != value:
            yield f"transformers.{key} {_short(own.get(key))}, not {value}"


def _other_base(flavors: dict[str, dict[str, Any]], base: BaseRecord | None, digests: Digests) -> Iterator[str]:
    """A folder that exists here must have the weights of the base; a path of another machine cannot be loaded here."""
    path = flavors.get("transformers", {}).get("local_base_model_path")
    if path is None:
        if base is not None:
            yield "no local_base_model_path"
        return
    if base is None or not isinstance(path, str):
        yield f"local_base_model_path {_short(path)}"
    elif Path(path).exists():
        try:
            expected = _weights(base_folder(base), digests)
        except BaseModelError as error:
            yield f"local_base_model_path {_short(path)}, which cannot be compared: {error.what}"
            return
        if _weights(Path(path), digests) != expected:
            yield f"local_base_model_path {_short(path)}, which holds other weights than the base {base.id}"


def _weights(folder: Path, digests: Digests) -> dict[str, str]:
    return digests.sha256_of_files({file.name: file for file in folder.glob("*.safetensors")})


def _short(value: Any) -> str:
    return repr(value)[:100]
