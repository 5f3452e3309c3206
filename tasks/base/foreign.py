"""What a base model may bring along and run: code of its own (`auto_map`), and weights as pickles.

Code runs only with `base.trust_remote_code: true`, and only files whose bytes data/base.json lists. Weights are safetensors or
GGUF.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import BaseModelError
from tasks.runtime.files import file_digest, read_json

CONFIGURATIONS = ("config.json", "tokenizer_config.json", "processor_config.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_NO_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt")
"""Pickles that a training leaves beside its weights, and that nothing reads."""


def trusts(folder: Path) -> bool:
    """May the code in a model folder run? Only where data/base.json says so, and lists every file of it by its digest."""
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
    """Refuses a model folder that asks to run code, where that may not be, or is not in the folder.

    Raises:
        BaseModelError: it asks for code.
    """
    for name in CONFIGURATIONS:
        for asked in _asked_for(folder / name):
            if "--" in asked:
                what = f"{name} names code of another repository ({asked}), which no revision pins"
                raise BaseModelError(what, where=str(folder), fix="Set base.model to one whose code is its own")
            if not may_run and not _is_known(folder):
                what = f"needs code of its own to run ({asked}, by auto_map in {name}), and none is run unasked"
                fix = "If you have read that code: base.trust_remote_code: true, and for a hub id base.revision: COMMIT"
                raise BaseModelError(what, where=str(folder), fix=fix)


def require_no_pickles(names: Iterable[str], where: str) -> None:
    """Raises BaseModelError where a model's weights are pickles alone."""
    there = sorted(names)
    if any(name.endswith((".safetensors", ".gguf")) for name in there):
        return
    pickles = [name for name in there if name.endswith(PICKLES) and name not in _NO_WEIGHTS]
    if pickles:
        what = f"its weights are a pickle ({pickles[0]}), which may run code when it is read; Strop reads safetensors"
        fix = (
            "Convert it once where that may happen (load it, then save_pretrained(FOLDER)), and set base.model: FOLDER"
        )
        raise BaseModelError(what, where=where, fix=fix)


def _asked_for(path: Path) -> list[str]:
    """The classes of its own that a configuration names."""
    try:
        named = read_json(path).get("auto_map")
    except (OSError, ValueError, AttributeError):
        return []
    found: list[Any] = list(named.values()) if isinstance(named, dict) else [named]
    flat = [each for one in found for each in (one if isinstance(one, list) else [one])]
    return [each for each in flat if isinstance(each, str)]


def _is_known(folder: Path) -> bool:
    """Does transformers itself know models of this type?"""
    from transformers import CONFIG_MAPPING

    try:
        return read_json(folder / "config.json").get("model_type") in CONFIG_MAPPING
    except (OSError, ValueError, AttributeError):
        return False
