"""The predictions of a model: of a registered version, from its commit in DVC, or of the project's last run.

    first, second = resolve(model, "champion"), resolve(model, "candidate")
    tables = read_pair(model, first, second)

Every run evaluates base, champion and candidate on the same rows. So two models of one run are read from that run, as the gate read
them; others each from the run that made them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.errors import DataError
from tasks.lineage.version_data import commit_at, registered_versions
from tasks.model_store.ledger import Entry, aliases_of, read_ledger
from tasks.model_store.versions import receipt_at
from tasks.runtime.files import damage_reason, read_json
from tasks.vcs.dvc_outputs import output_hash, stored_files

WORDS = ("base", "champion", "challenger", "candidate")
TOPICS = ("robustness", "bias", "grounding", "forgetting", "shots")
SEE_VERSIONS = "See the versions: strop history"


@dataclass(frozen=True)
class Model:
    label: str
    """`v3`, `champion v2`, `base`, `candidate`."""
    version: int | None
    """None for the base, and for a candidate that is not registered."""
    is_base: bool = False


@dataclass(frozen=True)
class Measures:
    """The numbers of two models in metrics.json: those of TOPICS."""

    first: dict[str, Any]
    second: dict[str, Any]
    is_one_run: bool
    """Whether one run measured both, on the same rows."""
    sources: tuple[str, str]
    """Where the answers and numbers of each are from: a run's files in the project, or in the commit of its version."""


@dataclass(frozen=True)
class Run:
    """The predictions of one run."""

    commit: str | None
    """The commit of the version that it registered; None for the last run, whose predictions are in the project."""
    version: int | None
    """The version of its candidate."""
    champion: int | None
    """The champion at its start."""

    @property
    def source(self) -> str:
        """Where its predictions are, in words."""
        last = f"{paths.PREDICTIONS}, of the last run"
        return last if self.commit is None else f"the run of v{self.version}, {paths.PREDICTIONS} in its commit"

    def role_of(self, model: Model) -> str | None:
        """The name of the model in this run; None if the run did not evaluate it."""
        if model.is_base:
            return "base"
        if model.version == self.version:
            return "candidate"
        return "champion" if model.version == self.champion else None


def resolve(model: str, text: str) -> Model:
    """The model that a user names: `3`, `v3`, or one of WORDS.

    Raises:
        DataError: there is no such version.
    """
    entries = read_ledger(model)
    if text == "base":
        return Model("base", None, is_base=True)
    if text == "candidate":
        version = last_run(entries).version
        return Model(f"candidate v{version}" if version else "candidate", version)
    if text in WORDS:
        version = aliases_of(entries)[text]
        if version is None:
            what = "no version serves yet" if text == "champion" else "no version was registered after the champion"
            raise DataError(what, where=text, fix=SEE_VERSIONS)
        return Model(f"{text} v{version}", version)
    number, versions = text.removeprefix("v"), registered_versions(model)
    if not number.isdecimal() or int(number) not in versions:
        known = ", ".join([*(f"v{version}" for version in versions[-10:]), *WORDS])
        raise DataError("no such version", where=text, fix=f"Name one of {known}. {SEE_VERSIONS}")
    return Model(f"v{int(number)}", int(number))


def last_run(entries: list[Entry]) -> Run:
    """The run whose predictions are in the project.

    Raises:
        DataError: there is none, or its metrics are damaged.
    """
    try:
        models = read_json(paths.METRICS)["models"]
        digests = {role: str(models[role]["weights_digest"]) for role in models}
    except FileNotFoundError as error:
        raise DataError("no run has made predictions yet", where="candidate", fix="Start one: strop run") from error
    except (ValueError, KeyError, TypeError) as error:
        fix = "Make it again: dvc repro --force evaluate"
        raise DataError(f"damaged ({damage_reason(error)})", where=str(paths.METRICS), fix=fix) from error
    version_of = {entry.weights_digest: entry.version for entry in entries if entry.kind == "judged"}
    return Run(None, version_of.get(digests.get("candidate", "")), version_of.get(digests.get("champion", "")))


def read_pair(model: str, first: Model, second: Model) -> tuple[pa.Table, pa.Table]:
    """The predictions of two models, from one run if it has both.

    Raises:
        DataError: both are the same model, or one has no predictions.
        VersioningError: neither cache nor remote has them.
    """
    if (first.is_base, first.version) == (second.is_base, second.version):
        raise DataError(
            "are the same model: there is nothing to compare",
            where=f"{first.label} and {second.label}",
            fix=SEE_VERSIONS,
        )
    run_of_first, run_of_second = _runs_of(model, first, second)
    return _read(model, run_of_first, first), _read(model, run_of_second, second)


def read_measures(model: str, first: Model, second: Model) -> Measures:
    """The numbers of two models beside their scores, from the same runs as `read_pair` reads."""
    runs = _runs_of(model, first, second)
    return Measures(
        _measures(runs[0], first), _measures(runs[1], second), runs[0] == runs[1], (runs[0].source, runs[1].source)
    )


def _measures(run: Run, each: Model) -> dict[str, Any]:
    metrics = read_json(paths.METRICS) if run.commit is None else (receipt_at(run.commit) or {}).get("metrics") or {}
    entry = (metrics.get("models") or {}).get(run.role_of(each)) or {}
    return {topic: entry[topic] for topic in TOPICS if topic in entry}


def _runs_of(model: str, first: Model, second: Model) -> tuple[Run, Run]:
    """The runs whose predictions of the two models are compared: one run if it has both."""
    runs = [_run_of(model, each) for each in (second, first) if not each.is_base]
    for run in runs:
        roles = run.role_of(first), run.role_of(second)
        if roles[0] and roles[1] and all(_file(run, role, model) for role in roles if role):
            return run, run
    by_model = {each: _run_of(model, each) for each in (first, second) if not each.is_base}
    return by_model.get(first, runs[0]), by_model.get(second, runs[0])


def _run_of(model: str, each: Model) -> Run:
    """The run that made the model."""
    if each.version is None or _is_last(model, each.version):
        return last_run(read_ledger(model))
    commit = commit_at(model, str(each.version))
    champion = (((receipt_at(commit) or {}).get("round") or {}).get("champion") or {}).get("version")
    return Run(commit, each.version, champion)


def _is_last(model: str, version: int) -> bool:
    try:
        return last_run(read_ledger(model)).version == version and paths.PREDICTIONS.is_dir()
    except DataError:
        return False


def _read(model: str, run: Run, each: Model) -> pa.Table:
    role = run.role_of(each)
    path = _file(run, role, model) if role else None
    if path is None:
        what = "has no predictions: erased with their rows, or made before they were recorded"
        fix = "Compare another version (strop history), or predict again: strop run --rejudge"
        raise DataError(what, where=each.label, fix=fix)
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowInvalid) as error:
        fix = "Remove it, then fetch it again: dvc checkout data/predictions"
        raise DataError(f"damaged ({damage_reason(error)})", where=str(path), fix=fix) from error


def _file(run: Run, role: str, model: str) -> Path | None:
    """The file of a role; None if there is none."""
    name = f"{role}.parquet"
    if run.commit is None:
        path = paths.PREDICTIONS / name
        return path if path.is_file() else None
    if output_hash(paths.PREDICTIONS, run.commit) is None:
        return None
    files = {file.relpath: file for file in stored_files(run.commit, paths.PREDICTIONS)}
    return files[name].path if name in files and not files[name].is_gone else None
