"""Makes a version again: a clone at its commit, an environment from its lock, every stage anew with an empty cache, compared.

result = reproduce(config, 3, Options(), report=print)
result.conclusion       # identical: every output of 6 stages
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks import paths
from tasks.errors import AuditError
from tasks.reproduce import environment as environments
from tasks.reproduce.circumstances import machine_differences, unrecorded
from tasks.reproduce.clone import make_clone
from tasks.reproduce.disk_space import ENVIRONMENT_BYTES, require_space, required_bytes
from tasks.reproduce.environment import Environment
from tasks.reproduce.outputs import compare_output
from tasks.reproduce.requirements import package_differences, project_name, requirements_of
from tasks.reproduce.result import EnvironmentFacts, Reproduction, StageResult
from tasks.reproduce.run_stages import hangup_as_interrupt, run_stage, stage_environment
from tasks.reproduce.version import Version, find_version, require_inputs
from tasks.runtime.files import read_json
from tasks.runtime.machine import hardware
from tasks.state.verdict import outcome_of
from tasks.vcs.dvc_cache import adopt_objects

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

Report = Callable[[StageResult], None]


@dataclass(frozen=True)
class Options:
    environment: Literal["lock", "current"] = "lock"
    fresh: bool = False
    """Build the environment again, even if one of the same lock exists."""
    keep: Path | None = None
    """An empty or new folder for the clone, which stays there."""
    restore: bool = False
    """Store identical outputs that DVC's cache has lost in it."""
    until: str = ""
    """The last stage to run; "": all."""


def reproduce(config: PipelineConfig, number: int, options: Options, report: Report | None = None) -> Reproduction:
    """Runs every stage of a version again, and compares.

    Args:
        report: called after each stage.

    Raises:
        AuditError: there is no such version, something that its stages read is gone, its environment cannot be built, or a stage
            failed.
        DiskError: there is not enough space.
    """
    start = time.monotonic()
    version = find_version(config.register_.model_name, number)
    require_inputs(version, installed=options.environment == "current")
    with hangup_as_interrupt(), _folder(options.keep) as folder:
        require_space(required_bytes(version), folder, "the reproduction")
        environment, notes = _environment(version, options)
        clone = make_clone(version, folder)
        stages = list(_stages(version, environment, options, clone, report))
        outcome = _outcome(clone / paths.VERDICT)
        restored = _restore(version, stages, clone) if options.restore else 0
    return Reproduction(
        model=version.model,
        version=number,
        commit=version.commit,
        environment=_facts(version, environment, options),
        stages=tuple(stages),
        machine=machine_differences(version.receipt.get("hardware") or {}, hardware()),
        notes=(*version.notes, *unrecorded(version.receipt), *notes, *_of_stages(version)),
        outcome=outcome,
        recorded_outcome=outcome_of(version.receipt["verdict"]),
        restored=restored,
        clone=clone if options.keep else None,
        seconds=time.monotonic() - start,
    )


def _environment(version: Version, options: Options) -> tuple[Environment, Sequence[str]]:
    if options.environment == "current":
        return environments.current_environment(), ()
    recorded = version.receipt.get("environment") or {}
    project = project_name(version.text("pyproject.toml"))
    requirements = requirements_of(version.text(paths.CONSTRAINTS), recorded.get("packages") or {}, project)
    if requirements is None:
        what = f"it has no {paths.CONSTRAINTS}, and its receipt records no packages"
        raise AuditError(what, where=version.name, fix=f"Run again with {environments.CURRENT}")
    require_space(ENVIRONMENT_BYTES, environments.environments_folder(), "the environment")
    built = environments.build_environment(requirements, recorded.get("python") or "", fresh=options.fresh)
    return built, requirements.notes


def _facts(version: Version, environment: Environment, options: Options) -> EnvironmentFacts:
    recorded = version.receipt.get("environment") or {}
    differences: tuple[str, ...] = ()
    if (python := recorded.get("python")) and python != environment.version:
        differences = (f"Python {environment.version} ({python})",)
    if packages := recorded.get("packages"):
        project = project_name(version.text("pyproject.toml"))
        differences += package_differences(packages, environment.packages, project)
    folder = str(environment.python.parent.parent)
    return EnvironmentFacts(
        options.environment,
        environment.version,
        folder,
        environment.is_cached,
        round(environment.seconds, 1),
        differences,
    )


def _stages(
    version: Version, environment: Environment, options: Options, clone: Path, report: Report | None
) -> Iterator[StageResult]:
    """Runs the stages, and compares the outputs of each."""
    log = (paths.CACHE / "logs" / f"reproduce-v{version.number}.log").absolute()
    log.unlink(missing_ok=True)
    variables = stage_environment(environment.python, version.receipt, clone, is_own=options.environment == "current")
    names = _until(version, options.until)
    logger.info(f"reproduce: {version.name} at {version.commit[:12]}: {', '.join(names)}; log: {log}")
    for name in names:
        start = time.monotonic()
        new = run_stage(name, clone, environment.python, variables, log)
        seconds = time.monotonic() - start
        recorded = {str(out["path"]): out.get("md5") for out in version.lock[name].get("outs") or ()}
        outputs = (
            compare_output(version.commit, path, recorded.get(path), new.get(path), clone)
            for path in sorted({*recorded, *new})
        )
        result = StageResult(name, round(seconds, 1), tuple(outputs))
        if report:
            report(result)
        yield result


def _until(version: Version, last: str) -> list[str]:
    names = list(version.lock)
    return names[: names.index(last) + 1] if last in names else names


def _of_stages(version: Version) -> list[str]:
    missing = version.missing_stages
    return [f"not run, since {paths.DVC_LOCK} has no entry of them: {', '.join(missing)}"] if missing else []


def _restore(version: Version, stages: list[StageResult], clone: Path) -> int:
    """Stores the files of identical outputs in the project's cache, where it lacks them."""
    identical = {output.path for stage in stages for output in stage.outputs if output.state == "identical"}
    outs = [out for stage in version.lock.values() for out in stage.get("outs") or ()]
    return adopt_objects(clone / ".dvc" / "cache", [str(out["md5"]) for out in outs if out["path"] in identical])


def _outcome(verdict: Path) -> str:
    return outcome_of(read_json(verdict)) if verdict.is_file() else ""


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder of the clone: removed at the end, also after an error or Ctrl-C, unless it is to be kept."""
    if keep is not None:
        try:
            is_free = not keep.exists() or (keep.is_dir() and not any(keep.iterdir()))
            keep.mkdir(parents=True, exist_ok=is_free)
        except FileExistsError as error:
            raise AuditError("exists, and is not empty", where=str(keep), fix="Name another: --keep FOLDER") from error
        except OSError as error:
            what = f"cannot be made ({error.strerror})"
            raise AuditError(what, where=str(keep), fix="Name another: --keep FOLDER") from error
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="strop-reproduce-"))
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
