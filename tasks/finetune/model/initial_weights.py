"""What a training goes on from: the base, or trained weights, whose adapter is trained on or merged first."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from tasks.base.convert import base_folder
from tasks.base.foreign import trusts
from tasks.base.heads import REWARD
from tasks.base.load import ADAPTER, is_adapter, labels_of, load_base, load_trained, load_weights
from tasks.base.precision import Precision
from tasks.errors import TrainingError
from tasks.finetune.work import Work
from tasks.runtime.files import read_json

ADAPTED = ("lora", "dora", "qlora")


def goes_on_with_adapter(work: Work) -> bool:
    """Is it the adapter of the start that is trained on? One of another shape, or with another head, is merged into the base."""
    settings = work.settings
    if work.start is None or not is_adapter(work.start):
        return False
    labels = labels_of(work.start)
    if (settings.objective in ("classify", "reward")) != (labels is not None):
        return False
    known = read_json(work.start / ADAPTER)
    if settings.method == "prompt":
        kind = "PREFIX_TUNING" if settings.prompt.kind == "prefix" else "PROMPT_TUNING"
        return (known["peft_type"], known.get("num_virtual_tokens")) == (kind, settings.prompt.virtual_tokens)
    if settings.method not in ADAPTED or known["peft_type"] != "LORA":
        return False
    wanted = (settings.lora.rank, settings.lora.alpha, settings.method == "dora")
    if (known["r"], known["lora_alpha"], known["use_dora"]) != wanted:
        return False
    return set(known["target_modules"]) == _targets(base_folder(work.record), settings.lora.target_modules, labels)


@functools.cache
def _targets(folder: Path, named: str | tuple[str, ...], labels: tuple[str, ...] | None) -> frozenset[str]:
    """The modules that get an adapter, by name; `all-linear` as PEFT reads it of a model without memory."""
    if not isinstance(named, str):
        return frozenset(named)
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    kind, task = (
        (AutoModelForCausalLM, "CAUSAL_LM") if labels is None else (AutoModelForSequenceClassification, "SEQ_CLS")
    )
    with torch.device("meta"):
        model = kind.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=trusts(folder)))
        found = get_peft_model(model, LoraConfig(task_type=task, target_modules=named)).peft_config["default"]
    return frozenset(found.target_modules)


def load_start(work: Work, precision: Precision, **more: Any) -> Any:
    """The weights below whatever the method adds: the base's, or those of the start.

    Raises:
        TrainingError: the start tells labels apart, and the objective needs one that writes, or has another head.
    """
    _require_kind(work)
    if work.start is None or goes_on_with_adapter(work):
        return load_base(work.record, precision, **more)
    return load_weights(_whole_start(work.start, work), precision, **more)


def _require_kind(work: Work) -> None:
    labels, objective = labels_of(work.start) if work.start is not None else None, work.settings.objective
    if labels is not None and (
        objective not in ("classify", "reward") or (objective == "reward") != (labels == REWARD)
    ):
        what = f"what is trained on tells {', '.join(labels)} apart: objective: {objective} cannot go on from it"
        raise TrainingError(what, where="finetune", fix="Train the base: finetune.continue_from: base")


def _whole_start(start: Path, work: Work) -> Path:
    """The folder of the start's weights, its adapter merged into the base."""
    if not is_adapter(start):
        return start
    merged = work.checkpoints / "start"
    if not (merged / "config.json").is_file():
        if read_json(start / ADAPTER)["peft_type"] != "LORA":
            what = "trained prompts cannot be merged into the weights"
            fix = "Go on with the same finetune.prompt, or train with method: lora before"
            raise TrainingError(what, where="finetune", fix=fix)
        with (
            torch.random.fork_rng()
        ):  # a run that goes on does not merge again: what is drawn after it must be the same
            model = load_trained(start, work.record).merge_and_unload()
        beside = merged.with_name(f"start.{os.getpid()}")  # several processes may do so at once
        model.save_pretrained(beside)
        with contextlib.suppress(OSError):
            beside.rename(merged)
        shutil.rmtree(beside, ignore_errors=True)
    return merged


def take_adapter(model: Any, folder: Path) -> None:
    """Puts the trained adapter in `folder` into the new one of the same shape."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    loaded = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    strange = set(loaded.unexpected_keys) - {"prompt_embeddings"}  # those have a way of their own
    assert not strange, f"an adapter of another shape: {sorted(strange)[:3]}"
