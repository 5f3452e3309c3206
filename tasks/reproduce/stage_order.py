"""The order of stages in a dvc.lock, by the outputs that they read from each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tasks import paths
from tasks.errors import AuditError


def in_order(stages: dict[str, Any], described: Sequence[str]) -> dict[str, Any]:
    """The stages in an order in which they can run; among stages that may run at once, that of dvc.yaml.

    Args:
        described: the names in dvc.yaml; `name@item` in dvc.lock is an item of `name`.

    Raises:
        AuditError: stages read each other's outputs in a circle.
    """
    writer = {str(out["path"]): name for name, stage in stages.items() for out in stage.get("outs") or ()}
    needs = {name: _writers(stage, writer) - {name} for name, stage in stages.items()}
    place = {name: number for number, name in enumerate(described)}
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise AuditError("its stages read each other's outputs in a circle", where=str(paths.DVC_LOCK)) from error
    ordered: dict[str, Any] = {}
    ready: list[str] = []
    while sorter.is_active():
        ready += sorter.get_ready()
        ready.sort(key=lambda name: (place.get(name.partition("@")[0], len(place)), name))
        name = ready.pop(0)
        ordered[name] = stages[name]
        sorter.done(name)
    return ordered


def _writers(stage: dict[str, Any], writer: dict[str, str]) -> set[str]:
    """The stages that write what a stage reads: the path itself, a folder around it, or a file in it."""
    read = [str(dependency["path"]) for dependency in stage.get("deps") or ()]
    return {
        name
        for path in read
        for output, name in writer.items()
        if path == output or path.startswith(f"{output}/") or output.startswith(f"{path}/")
    }
