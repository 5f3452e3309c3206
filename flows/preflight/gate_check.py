"""The check of the gate's policy: its names, its conditions, and the numbers that it limits."""

from __future__ import annotations

from collections.abc import Iterator

from flows.preflight.problem import Problem, error, warning
from flows.preflight.project import Project
from tasks import paths
from tasks.gate.limit_intervals import has_interval
from tasks.gate.number_paths import split_path

MEASURED_BY: dict[str, tuple[str, ...]] = {
    "latency": ("latency_rows",), "cost": ("latency_rows", "price_per_hour"), "robustness": ("probes",), "bias": ("probes",),
    "shots": ("shots",), "forgetting.anchors": ("anchors",),
}  # fmt: skip
"""First parts of a path in `gate.limits` → the settings of evaluate without which it is never measured."""


def gate_policy(project: Project) -> Iterator[Problem]:
    """The names in `gate.tiers`, the conditions of `gate.slices`, and the paths of `gate.limits`, which are numbers that evaluate
    measures."""
    gate = project.config.gate
    errors = _path_errors(project) if gate.limits else {}
    for path, (what, fix) in errors.items():
        yield error(f"`{path}`: {what}", project.where("gate", "limits", path), fix)
    for path, limit in gate.limits.items():
        if path not in errors and limit.whole_interval and not has_interval(split_path(path)):
            what = f"`{path}` has no interval: there are no rows whose mean, share or count it is"
            yield error(
                what, project.where("gate", "limits", path), "Remove whole_interval: the number itself is compared"
            )
    if gate.tiers or any(not isinstance(each, str) for each in gate.slices):
        from tasks.gate.policy import require_valid

        require_valid(gate.model_copy(update={"limits": {}}))
    if "evaluate" in project.valid_sections:
        yield from _never_measured(project, [path for path in gate.limits if path not in errors])


def _path_errors(project: Project) -> dict[str, tuple[str, str]]:
    """Path at which metrics.json can never have a number → why, and the fix."""
    from flows.preflight.known_numbers import path_error

    families = {path.stem for path in paths.TEMPLATES.glob("*.yaml")}
    if "ingest" in project.valid_sections:
        families |= {source.family for _, source in project.sources()}
    reasons = {path: path_error(split_path(path), families) for path in project.config.gate.limits}
    return {path: reason for path, reason in reasons.items() if reason}


def _never_measured(project: Project, limited: list[str]) -> Iterator[Problem]:
    for path in limited:
        if not (missing := _missing_settings(project, split_path(path))):
            continue
        what = f"`{path}` is never measured, so its check fails: evaluate.{missing[0]} is not set"
        yield warning(what, project.where("gate", "limits", path), f"Set evaluate.{' and evaluate.'.join(missing)}")


def _missing_settings(project: Project, parts: tuple[str, ...]) -> list[str]:
    """The settings of evaluate without which there is no number at the path."""
    evaluate = project.config.evaluate
    needed = MEASURED_BY.get(".".join(parts[:2]), MEASURED_BY.get(parts[0], ()))
    if missing := [name for name in needed if not _is_set(project, name)]:
        return missing
    if parts[0] in ("robustness", "bias") and evaluate.probes and parts[1] not in getattr(evaluate.probes, parts[0]):
        return [f"probes.{parts[0]}: {parts[1]}"]
    if parts[0] == "shots" and parts[1:2] != (str(evaluate.shots),):
        return [f"shots: {'.'.join(parts[1:2])}"]
    if parts[0] == "forgetting" and parts[1] != "anchors" and evaluate.lm_eval is None:
        return ["lm_eval"]
    if parts[0] == "code":
        return _missing_of_code(project, parts)
    return []


def _missing_of_code(project: Project, parts: tuple[str, ...]) -> list[str]:
    code = project.config.evaluate.code
    if not code.execute:
        return ["code.execute"]
    samples = [
        part.removeprefix("pass_at_") for part in parts[2:] if parts[2] == "sampled" and part.startswith("pass_at_")
    ]
    return [f"code.pass_at: {k}" for k in samples if k not in map(str, code.pass_at)]


def _is_set(project: Project, name: str) -> bool:
    value = getattr(project.config.evaluate, name)
    return value is not None and value is not False and (name == "price_per_hour" or value != 0)
