"""Runs the checks that need torch in a process of their own, and caches their result by its inputs.

Run by hand: `python -m flows.preflight.process method trainer`
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flows.preflight.problem import Problem, unexpected, warning
from flows.preflight.project import Project, read_project
from flows.preflight.table import CHECKS, run_check
from tasks import paths
from tasks.runtime.files import content_digest, read_json, write_json
from tasks.runtime.import_closure import code_digest

CACHE = paths.CACHE / "preflight.json"
TIME_LIMIT_SECONDS = 300.0
LIBRARIES = ("accelerate", "bitsandbytes", "deepspeed", "lm_eval", "peft", "torch", "transformers", "trl")
"""Their versions decide which fields and modules exist."""
DEVICES = ("/dev/nvidia0", "/dev/kfd")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "STROP_NODE")


def run_in_process(names: Sequence[str], project: Project, uses_cache: bool) -> dict[str, list[Problem]]:
    """Check → its problems."""
    key = _key(names, project)
    if uses_cache and (cached := _cached(key)) is not None:
        return cached
    command = [sys.executable, "-m", __name__, *names]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIME_LIMIT_SECONDS, check=True, text=True)
        results = _results(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return {names[0]: [warning(f"the checks of the training did not end within {TIME_LIMIT_SECONDS:.0f} s")]}
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [""])[-1]
        return {names[0]: [warning(f"the checks of the training failed (exit code {error.returncode}: {last[:200]})")]}
    except ValueError as error:
        return {names[0]: [unexpected(error)]}
    if not any(problem.severity == "error" for problems in results.values() for problem in problems):
        write_json(CACHE, {"key": key, "problems": _as_json(results)})
    return results


def _cached(key: str) -> dict[str, list[Problem]] | None:
    try:
        entry = read_json(CACHE)
        return _results(entry["problems"]) if entry["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _key(names: Sequence[str], project: Project) -> str:
    """Digest of all inputs of these checks. Of the free disk space only the magnitude counts, and the training's seed does not."""
    document = {name: value for name, value in project.document.items() if name not in ("ingest", "curate", "gate")}
    if isinstance(finetune := document.get("finetune"), dict):
        document["finetune"] = {name: value for name, value in finetune.items() if name != "seed"}
    code = code_digest("flows/preflight/training_checks.py")
    free = shutil.disk_usage(Path.cwd()).free.bit_length()
    machine = [free, *(os.path.exists(path) for path in DEVICES), *(os.environ.get(name) for name in VARIABLES)]
    versions = [_version(library) for library in LIBRARIES]
    files = [*_model_files(project), *_task_files(project)]
    return content_digest([*names, document, project.base_digest, code, machine, versions, files])


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _model_files(project: Project) -> list[Any]:
    """The files of the teachers and reward models in params.yaml, as `stat` sees them."""
    if "finetune" not in project.valid_sections:
        return []
    trainings = [training for _, training in project.trainings()]
    names = [training.distill.teacher for training in trainings]
    names += [reward.model for training in trainings for reward in training.grpo.rewards]
    names += [project.config.finetune.launch.config]
    return _stats(file for name in names if name for file in sorted([Path(name), *Path(name).glob("*")]))


def _task_files(project: Project) -> list[Any]:
    """The files of lm-eval's tasks in params.yaml, as `stat` sees them."""
    settings = project.config.evaluate.lm_eval if "evaluate" in project.valid_sections else None
    return _stats(sorted(Path(settings.include_path).rglob("*"))) if settings and settings.include_path else []


def _stats(files: Iterable[Path]) -> list[Any]:
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def _as_json(results: dict[str, list[Problem]]) -> dict[str, Any]:
    return {name: [asdict(problem) for problem in problems] for name, problems in results.items()}


def _results(content: dict[str, Any]) -> dict[str, list[Problem]]:
    return {name: [Problem(**problem) for problem in problems] for name, problems in content.items()}


def main(names: Sequence[str]) -> None:
    """Runs the named checks on the project in the working directory, and writes their problems as JSON to standard output."""
    from flows.runtime.environment import prepare_environment
    from tasks.runtime.fast_imports import importing
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    output = os.dup(1)
    os.dup2(2, 1)  # libraries print; standard output is only JSON
    prepare_environment(Path.cwd())
    project = read_project()
    with importing():
        import transformers  # noqa: F401
    results = {check.name: run_check(check, project) for check in CHECKS if check.name in names}
    with os.fdopen(output, "w", encoding="utf-8") as stream:
        json.dump(_as_json(results), stream)


if __name__ == "__main__":
    main(sys.argv[1:])
