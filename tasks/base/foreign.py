"""Code that a base model may contain: custom model code (`auto_map`), and weights as pickles.

Code runs only with `base.trust_remote_code: true`, and only files whose bytes data/base.json lists. Weights are safetensors or
GGUF.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import BaseModelError
from tasks.runtime.files import file_digest, read_json, read_object

CONFIGURATIONS = ("config.json", "tokenizer_config.json", "processor_config.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_NO_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt")
"""Pickles that a training leaves next to its weights, and that are never read."""


def trusts(folder: Path) -> bool:
    """May the code in a model folder run? Only if data/base.json allows it and lists the digest of each code file."""
    code = sorted(folder.glob("*.py"))
    if not code:
        return False
    try:
        pinned = read_json(paths.BASE)
        listed = set(pinned["files"].values()) if pinned.get("remote_code") else set()
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return bool(listed) and all(file_digest(path) in listed for path in code)


def require_own_code(folder: Path, may_run: bool) -> None:
    """Rejects a model folder that requires custom code, unless it may run and is in the folder.

    Raises:
        BaseModelError: the folder requires code that may not run.
    """
    for name in CONFIGURATIONS:
        for reference in _code_references(folder / name):
            if "--" in reference:
                what = f"{name} names code of another repository ({reference}), which no revision pins"
                raise BaseModelError(what, where=str(folder), fix="Set base.model to one whose code is its own")
            if not may_run and not _is_supported(folder):
                what = (
                    f"needs custom code to run ({reference}, by auto_map in {name}), and none runs without permission"
                )
                fix = "If you have read that code, set base.trust_remote_code: true, and for a hub id base.revision: COMMIT"
                raise BaseModelError(what, where=str(folder), fix=fix)


def require_no_pickles(names: Iterable[str], where: str) -> None:
    """Raises BaseModelError where a model's weights are available as pickles only."""
    present = sorted(names)
    if any(name.endswith((".safetensors", ".gguf")) for name in present):
        return
    pickles = [name for name in present if name.endswith(PICKLES) and name not in _NO_WEIGHTS]
    if pickles:
        what = f"its weights are a pickle ({pickles[0]}), which may run code when it is read; Strop reads safetensors"
        fix = (
            "Convert it once in a safe environment (load it, then save_pretrained(FOLDER)), and set base.model: FOLDER"
        )
        raise BaseModelError(what, where=where, fix=fix)


def _code_references(path: Path) -> list[str]:
    """The custom classes that a configuration names in `auto_map`."""
    auto_map = read_object(path).get("auto_map")
    values: list[Any] = list(auto_map.values()) if isinstance(auto_map, dict) else [auto_map]
    references = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    return [reference for reference in references if isinstance(reference, str)]


def _is_supported(folder: Path) -> bool:
    """Does transformers itself support models of this type?"""
    from transformers import CONFIG_MAPPING

    return read_object(folder / "config.json").get("model_type") in CONFIG_MAPPING
