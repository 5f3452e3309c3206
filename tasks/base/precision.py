"""The precision of a model: the meaning of `auto` on this machine, and whether a precision is only emulated here.

Used by training, evaluation, generation and `strop doctor`.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any, Literal, cast

import torch

logger = logging.getLogger(__name__)


Precision = Literal["bf16", "fp32"]
PrecisionSetting = Literal["auto", "bf16", "fp32"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

X86_FLAGS, ARM_FLAGS = frozenset({"avx512_bf16", "amx_bf16"}), frozenset({"bf16", "svebf16"})
"""CPU flags of native bf16. Arm's are read on Linux only: elsewhere PyTorch does not use them."""
CPUINFO = Path("/proc/cpuinfo")


def best_precision() -> Precision:
    """bf16 if the GPU or the CPU supports it natively, else fp32."""
    return "bf16" if computes_bf16() else "fp32"


def precision_of(precision: PrecisionSetting) -> Precision:
    """The precision of a setting on this machine."""
    return best_precision() if precision == "auto" else precision


def judged_precision(judged: str | None, stage: str, otherwise: PrecisionSetting = "auto") -> Precision:
    """The precision in which a version computes here: that of its evaluation, but fp32 in place of bf16 where bf16 is emulated.

    Args:
        judged: that of its evaluation (metrics.json); None: not known.
        stage: prefix of the message.
        otherwise: the setting, if it is not known.
    """
    if judged == "bf16" and not computes_bf16():
        logger.info(f"{stage}: computes in fp32, since bf16 is only emulated here; it was evaluated in bf16")
        return "fp32"
    return cast(Precision, judged) if judged in DTYPES else precision_of(otherwise)


def computes_bf16() -> bool:
    """Does the device support bf16 natively? PyTorch emulates it everywhere else."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not (X86_FLAGS | ARM_FLAGS).isdisjoint(processor_flags())


@functools.cache
def processor_flags() -> frozenset[str]:
    """CPU flags as the kernel names them; on x86, also those that PyTorch detects."""
    capabilities = _capabilities()
    flags = {name for name in X86_FLAGS if capabilities.get(name) is True}
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags.update(value.split())
            break
    return frozenset(flags)


def processor_name() -> str:
    """Such as `AMD EPYC`."""
    names = (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name"))
    capabilities = _capabilities()
    return next(names, "") or str(capabilities.get("cpu_name") or capabilities.get("architecture") or "this CPU")


def _capabilities() -> dict[str, Any]:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older releases of torch
    return capabilities


def _cpuinfo() -> list[str]:
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return []


def emulation_note(precision: PrecisionSetting) -> str | None:
    """Why a precision is slow here; None if the hardware supports it."""
    if precision != "bf16" or computes_bf16():
        return None
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else processor_name()
    return f"bf16 is emulated on {device}, which has no instructions for it: several times slower than fp32"


def warn_of_emulation(stage: str, setting: str, precision: PrecisionSetting) -> None:
    """Logs a warning if a precision is emulated.

    Args:
        setting: the name of its setting, such as `evaluate.precision`.
    """
    if (note := emulation_note(precision)) is not None:
        logger.warning(f"{stage}: warning: {note}. Set {setting}: auto")
