"""What a model is computed in: what `auto` stands for on this machine, and whether a chosen precision is only emulated here.

The one place where this is decided, for training, evaluation, generation and `strop doctor`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import torch

from tasks.runtime.progress import print_line

Precision = Literal["bf16", "fp32"]
Chosen = Literal["auto", "bf16", "fp32"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

X86_FLAGS, ARM_FLAGS = frozenset({"avx512_bf16", "amx_bf16"}), frozenset({"bf16", "svebf16"})
"""What processors that compute in bf16 call it. Arm's are read on Linux only: elsewhere PyTorch does not use them."""
CPUINFO = Path("/proc/cpuinfo")


def best_precision() -> Precision:
    """bf16 where the GPU, or the processor's own instructions, compute in it."""
    return "bf16" if computes_bf16() else "fp32"


def precision_of(chosen: Chosen) -> Precision:
    """The precision that a setting stands for on this machine."""
    return best_precision() if chosen == "auto" else chosen


def computes_bf16() -> bool:
    """Does the device that models run on compute in bf16 itself? PyTorch emulates it everywhere else."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not (X86_FLAGS | ARM_FLAGS).isdisjoint(processor_flags())


@functools.cache
def processor_flags() -> frozenset[str]:
    """What the processor can do, by the names that the kernel gives it; of x86, what PyTorch knows of it, too."""
    known = _capabilities()
    told = {name for name in X86_FLAGS if known.get(name) is True}
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            told.update(value.split())
            break
    return frozenset(told)


def processor_name() -> str:
    """Such as `AMD EPYC`."""
    names = (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name"))
    told = _capabilities()
    return next(names, "") or str(told.get("cpu_name") or told.get("architecture") or "this processor")


def _capabilities() -> dict[str, Any]:
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch have none
    return known


def _cpuinfo() -> list[str]:
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return []


def emulation_note(chosen: Chosen) -> str | None:
    """Why a chosen precision is slow here; None where it is computed by the hardware."""
    if chosen != "bf16" or computes_bf16():
        return None
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else processor_name()
    return f"bf16 is emulated on {device}, which has no instructions for it: several times slower than fp32"


def warn_of_emulation(stage: str, setting: str, chosen: Chosen) -> None:
    """Prints a line where a chosen precision is emulated.

    Args:
        setting: where it was chosen, such as `evaluate.precision`.
    """
    if (note := emulation_note(chosen)) is not None:
        print_line(f"{stage}: warning: {note}. Set {setting}: auto")
