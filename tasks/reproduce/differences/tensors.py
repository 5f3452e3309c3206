"""How much the tensors of two models differ. One tensor of each is in memory, and it is compared in portions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.runtime.plurals import count_of

PORTION = 1 << 22
"""Values that are compared at once, in double precision: 32 MB a tensor."""


Place = tuple[Path, str]
"""A file, and the name of a tensor in it."""


@dataclass(frozen=True)
class _Sums:
    largest: float
    of_difference: float
    """Sum of squares."""
    of_recorded: float


def tensor_difference(recorded: Mapping[str, Path], new: Mapping[str, Path]) -> tuple[bool, str, dict[str, Any]]:
    """Compares the tensors of the same name in safetensors files, also where they are in other shards.

    Returns:
        Whether they are the same, the difference as text, and as numbers: the largest |Δ|, and the norm of Δ divided by that of
        the recorded weights.
    """
    is_by_file = _repeats_a_name(recorded) or _repeats_a_name(new)
    before, after = _places(recorded, is_by_file), _places(new, is_by_file)
    common = sorted(before.keys() & after.keys())
    reshaped, differing, largest, squares, norms = [], 0, 0.0, 0.0, 0.0
    for name in common:
        sums = _compare(before[name], after[name])
        if sums is None:
            reshaped.append(name)
            continue
        differing += sums.largest > 0
        largest, squares, norms = (
            max(largest, sums.largest),
            squares + sums.of_difference,
            norms + sums.of_recorded,
        )
    others = {"added": sorted(after.keys() - before.keys()), "removed": sorted(before.keys() - after.keys())}
    numbers: dict[str, Any] = {
        "tensors": len(before),
        "differing": differing,
        "largest_difference": largest,
        "relative_norm": math.sqrt(squares / norms) if norms else 0.0,
        "reshaped": reshaped,
        **others,
    }
    if not (differing or reshaped or any(others.values())):
        return True, "the same tensors in other bytes", numbers
    return False, _text(numbers), numbers


def _text(numbers: dict[str, Any]) -> str:
    parts = [f"{numbers['differing']:,} of {count_of(numbers['tensors'], 'tensor')} differ"]
    if numbers["differing"]:
        parts.append(
            f"largest |Δ| {numbers['largest_difference']:.3g}, relative norm of Δ {numbers['relative_norm']:.3g}"
        )
    for kind in ("added", "removed", "reshaped"):
        if names := numbers[kind]:
            parts.append(f"{kind}: {', '.join(names[:3])}{' …' * (len(names) > 3)}")
    return "; ".join(parts)


def _repeats_a_name(files: Mapping[str, Path]) -> bool:
    """Whether several files have a tensor of one name, as two adapters have."""
    names = [name for path in files.values() for name in _names(path)]
    return len(names) > len(set(names))


def _places(files: Mapping[str, Path], is_by_file: bool) -> dict[str, Place]:
    """Name of a tensor, with that of its file if required → its place."""
    return {
        f"{file}: {name}" if is_by_file else name: (path, name)
        for file, path in sorted(files.items())
        for name in _names(path)
    }


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _compare(before: Place, after: Place) -> _Sums | None:
    """The sums of a tensor; None if its shape or type is another one."""
    import torch
    from safetensors import safe_open

    with safe_open(before[0], framework="pt") as first, safe_open(after[0], framework="pt") as second:
        old, new = first.get_tensor(before[1]), second.get_tensor(after[1])
    if old.shape != new.shape or old.dtype != new.dtype:
        return None
    largest, squares, norms = 0.0, 0.0, 0.0
    for a, b in zip(old.flatten().split(PORTION), new.flatten().split(PORTION), strict=True):
        wide = a.to(torch.float64)
        norms += float((wide * wide).sum())
        if torch.equal(a.view(torch.uint8), b.view(torch.uint8)):  # the bits: NaN is not equal to itself
            continue
        delta = b.to(torch.float64) - wide
        largest = max(largest, float(delta.abs().nan_to_num(nan=math.inf).max()))
        squares += float((delta * delta).sum())
    return _Sums(largest, squares, norms)
