"""OpenLineage events of a run and its stages (`lineage.openlineage`). Without the setting nothing happens; a failure stops nothing.

with reported_run(config):
    with reported_stage("curate") as stage:
        stage.is_cached = not reproduce("curate")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import ConfigError, StropError
from tasks.lineage.openlineage import datasets
from tasks.lineage.openlineage.emitter import Emitter
from tasks.lineage.openlineage.events import RUN, Job, Parent, Source, State, event, new_run_id, now
from tasks.runtime.redaction.errors_and_logs import redacted_error
from tasks.runtime.redaction.settings import with_values
from tasks.runtime.redaction.text import without_credentials
from tasks.runtime.run_origin import current_snapshot, project
from tasks.vcs import dvc_outputs, git
from tasks.vcs.dvc_files import parse_yaml

logger = logging.getLogger(__name__)


@dataclass
class RunLineage:
    """The run that this process reports."""

    emitter: Emitter
    model: str
    source: Source | None
    run_id: str


@dataclass
class StageLineage:
    """What is known of a stage; set while it runs."""

    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    is_cached: bool | None = None


_current: list[RunLineage] = []
"""The run, if it is reported: steps are Prefect tasks, which run in threads of their own."""


@contextmanager
def reported_run(config: PipelineConfig) -> Iterator[None]:
    """Reports the start and the end of a run, and makes `reported_stage` report its stages."""
    setting = config.lineage.openlineage
    if setting is None:
        yield
        return
    emitter = _guarded(lambda: Emitter(_target(setting)))
    run = _guarded(lambda: RunLineage(emitter, config.register_.model_name, _source(), new_run_id()))
    if emitter is None or run is None:
        logger.warning(
            "lineage: no OpenLineage events can be sent, and the run goes on without them; strop -v run says why"
        )
        yield
        return
    with emitter:
        _current.append(run)
        job = Job(run.model, RUN, run.source)
        try:
            with _reported(run, job, None, StageLineage(), dict):
                yield
        finally:
            _current.remove(run)


@contextmanager
def reported_stage(name: str) -> Iterator[StageLineage]:
    """Reports a stage of DVC, or another step of the run, with its datasets."""
    stage = StageLineage()
    if not _current:
        yield stage
        return
    run = _current[-1]
    stage.inputs = _guarded(lambda: _known_inputs(name)) or {}
    job, parent = Job(run.model, name, run.source), Parent(run.run_id, RUN)
    with _reported(run, job, parent, stage, lambda: _locked_outputs(name, stage)):
        yield stage


@contextmanager
def _reported(
    run: RunLineage, job: Job, parent: Parent | None, stage: StageLineage, complete: Callable[[], Any]
) -> Iterator[None]:
    run_id = run.run_id if parent is None else new_run_id()

    def send(state: State, error: str = "") -> None:
        facts: dict[str, Any] = {
            "inputs": dict(stage.inputs),
            "outputs": dict(stage.outputs),
            "is_cached": stage.is_cached,
        }
        run.emitter.send(partial(event, state, job, run_id, now(), parent=parent, error=error, **facts))

    send("START")
    try:
        yield
    except BaseException as error:
        send("FAIL", _reason(error))
        raise
    _guarded(complete)
    send("COMPLETE")


def _reason(error: BaseException) -> str:
    """Of an error of a library its kind alone: it may quote a row, whose text could not be erased from a receiver."""
    clean = redacted_error(error)
    return " ".join(str(clean).split())[:1000] if isinstance(clean, StropError) else type(error).__name__


def _locked_outputs(name: str, stage: StageLineage) -> None:
    """Sets the datasets of a stage that has run, as DVC recorded them."""
    lock = _stages(paths.DVC_LOCK)
    stage.inputs |= datasets.inputs(lock, name)
    stage.outputs |= datasets.outputs(lock, name)


def dataset_versions(*names: Path) -> dict[str, str]:
    """The present versions of these outputs; empty where the run is not reported."""
    written = (_guarded(dvc_outputs.output_hashes) or {}) if _current else {}
    return {name.as_posix(): written[name.as_posix()] for name in names if name.as_posix() in written}


def _known_inputs(name: str) -> dict[str, str]:
    raw = dataset_versions(paths.RAW)
    return datasets.known_inputs(_stages(paths.DVC_YAML), _stages(paths.DVC_LOCK), raw, name)


def _stages(path: Path) -> dict[str, Any]:
    return (parse_yaml(path.read_bytes()).get("stages") or {}) if path.is_file() else {}


def _source() -> Source | None:
    """The git remote `origin`, or the project's folder, with the commit at the start of the run."""
    snapshot = current_snapshot()
    commit = snapshot.commit if snapshot else git.head_commit()
    try:
        url = git.run("config", "--get", "remote.origin.url").strip()
    except StropError:
        url = ""
    return Source(without_credentials(url) or Path(project()).as_uri(), commit)


def _guarded(action: Callable[[], Any]) -> Any:
    """The result; None, with a line in the debug log, where it fails: lineage stops no run."""
    try:
        return action()
    except Exception:
        logger.debug("lineage: no OpenLineage event", exc_info=True)
        return None


def _target(setting: str) -> str:
    address = str(with_values(setting, _not_set))
    return address if address.startswith(("http://", "https://")) else str(Path(project()) / address)


def _not_set(name: str) -> ConfigError:
    fix = f"Set it before the run: export {name}=…"
    return ConfigError(f"the environment variable {name} is not set", where="lineage.openlineage", fix=fix)
