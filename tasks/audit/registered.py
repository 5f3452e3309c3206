"""What MLflow holds of a version: every file of the model, the tags, and the run's parameters, metrics, curves and artifacts."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks import paths
from tasks.audit.mlmodel import MLMODEL, unlike_logged
from tasks.audit.subject import Link, Subject, link
from tasks.base.pin import base_of
from tasks.model_store.logged_files import (
    FILES_TAG,
    LOGGED,
    RESTORED_TAG,
    changed_files,
    differences_from_trained,
    digests,
    files_digest,
)
from tasks.runtime.files import content_digest, md5_of
from tasks.runtime.plurals import count_of
from tasks.tracking.live_metrics import TRIAL_STATE_TAG, TRIAL_TAG, WEIGHTS_TAG, read_points, trial_name
from tasks.tracking.model_versions import RECEIPT_TAG
from tasks.tracking.run_record import LONGEST_PARAM, numbers_of, params_of
from tasks.tracking.runs import RunData
from tasks.vcs import dvc_outputs


def check_registry_files(subject: Subject) -> Link:
    """Every file that the registry would load is the one that was logged: by the record in the version's commit.

    A version of before there were records is compared with DVC's files, as far as MLflow does not write its own.
    """
    content, version = subject.blob(LOGGED), subject.version
    record: dict[str, Any] | None = json.loads(content) if content else None
    with TemporaryDirectory(prefix="strop-audit-") as folder:
        files = {
            name: path
            for name, path in subject.registry.model_files(version.source, Path(folder)).items()
            if not name.endswith(".safetensors")  # these are a link of their own
        }
        moved = _foreign_location(subject)
        if record is None or record["source"] != version.source or RESTORED_TAG in version.tags:
            return _without_record(subject, files, moved, was_recorded=record is not None)
        recorded = {name: digest for name, digest in record["files"].items() if not name.endswith(".safetensors")}
        wrong = moved + _named(changed_files(recorded, digests(files)), files)
    if (tag := version.tags.get(FILES_TAG)) not in (None, files_digest(record)):
        wrong.append(f"the registry's tag {FILES_TAG} is {str(tag)[:12]}, {LOGGED} says {files_digest(record)[:12]}")
    return link("registry files", wrong, f"{count_of(len(files), 'file')} as they were logged")


def _foreign_location(subject: Subject) -> list[str]:
    """Whoever loads the version by its number gets the files that were looked at, and no others."""
    place = subject.registry.foreign_location(subject.version)
    return [f"the registry loads v{subject.version.version} from {place}, not from its own model"] if place else []


def _without_record(subject: Subject, files: dict[str, Path], moved: list[str], was_recorded: bool) -> Link:
    trained = {
        file.relpath: file.path for file in subject.stored(paths.MODEL) if not file.relpath.endswith(".safetensors")
    }
    problems = differences_from_trained(trained, files)
    if mlmodel := files.get(MLMODEL):
        is_adapter = "adapter_config.json" in trained
        if lines := unlike_logged(mlmodel, base_of(subject.receipt["base"]) if is_adapter else None):
            problems[MLMODEL] = "; ".join(lines)
    else:
        problems[MLMODEL] = "is not there"
    wrong = moved + _named(problems, files)
    why = (
        "logged again since, by strop registry rebuild"
        if was_recorded
        else "registered before the digests were recorded"
    )
    good = f"{why}; the {count_of(len(files), 'file')} say what DVC's say, except those that MLflow alone writes"
    return link("registry files", wrong, good, unrecorded=True)


def check_run(subject: Subject) -> Link:
    """MLflow's copies of parameters, metrics, curves, reports and digests are the receipt's."""
    run_id, receipt = subject.version.run_id, subject.receipt
    facts = subject.registry.run_data(run_id)
    wrong = [*_tags(subject, facts), *_values(subject, facts), *_curves(subject, facts)]
    wrong += ["everything was deleted"] if facts.is_deleted else []
    with TemporaryDirectory(prefix="strop-audit-") as folder:
        files = subject.registry.run_files(run_id, Path(folder))
        for path, expected in (
            (paths.RECEIPT, receipt),
            (paths.VERDICT, receipt["verdict"]),
            (paths.METRICS, receipt["metrics"]),
        ):
            wrong += _artifact(files.get(path.name), path.name, expected)
        wrong += _plots(subject, files)
    wrong += trials_that_differ(subject)
    good = f"{count_of(len(facts.params), 'parameter')}, {count_of(len(facts.metrics), 'metric')}, {count_of(len(files), 'file')}"
    return link("run", [f"{problem} in run {run_id}" for problem in wrong], good)


def _tags(subject: Subject, facts: RunData) -> Iterator[str]:
    receipt = subject.receipt
    digest, verdict = content_digest(receipt), "passed" if receipt["verdict"]["passed"] else "refused"
    of_run = {RECEIPT_TAG: digest, WEIGHTS_TAG: receipt["weights"], "strop.dataset": receipt["dataset"]}
    for key, value in of_run.items():
        if facts.tags.get(key) != value:
            yield f"tag {key} is {facts.tags.get(key)}, not {value}"
    for key, value in {WEIGHTS_TAG: receipt["weights"], "strop.verdict": verdict}.items():
        if (result := subject.version.tags.get(key)) != value:
            yield f"tag {key} of the version is {result}, not {value}"
    if receipt["dataset"] not in facts.datasets:
        yield f"dataset {receipt['dataset']} is not"


def _values(subject: Subject, facts: RunData) -> Iterator[str]:
    receipt, run_id = subject.receipt, subject.version.run_id
    for key, value in params_of(receipt).items():
        if not _is_same_param(facts.params.get(key), value):
            yield f"parameter {key} is {facts.params.get(key)}, not {value}"
    for name, number in numbers_of(receipt["metrics"]).items():
        if not _is_same(facts.metrics.get(name), number):
            yield f"metric {name} is {facts.metrics.get(name)}, not {number}"
        elif other := [value for _, value in subject.registry.history(run_id, name) if not _is_same(value, number)]:
            yield f"metric {name} was {other[0]} at some time, not {number}"
    for name, value in subject.registry.model_metrics(subject.version.source):
        if not _is_same(facts.metrics.get(name), value) and not _is_a_point(subject, name, value):
            yield f"metric {name} of the logged model is {value}, not {facts.metrics.get(name)}"


def _is_a_point(subject: Subject, name: str, value: float) -> bool:
    """MLflow may note an earlier point of a curve beside the model."""
    return any(_is_same(value, point) for _, point in subject.registry.history(subject.version.run_id, name))


def _curves(subject: Subject, facts: RunData) -> Iterator[str]:
    stored = next((file for file in subject.stored(paths.MODEL) if file.relpath == "curves.jsonl"), None)
    points = read_points(stored.path) if stored else []
    for name in sorted({point.name for point in points}):
        logged = subject.registry.history(subject.version.run_id, name) if name in facts.metrics else set()
        values = dict[int, list[float]]()
        for step, value in logged:
            values.setdefault(step, []).append(value)
        for point in (each for each in points if each.name == name):
            if not any(_is_same(value, point.value) for value in values.get(point.step, ())):
                yield f"curve {name} at step {point.step} is {values.get(point.step)}, not {point.value}"
                break
        if values and not any(_is_same(facts.metrics[name], value) for value in values[max(values)]):
            yield f"metric {name} is {facts.metrics[name]}, its curve ends at {values[max(values)]}"


def trials_that_differ(subject: Subject) -> Iterator[str]:
    """The runs of a search's trials: what each tried, its validation losses, and how it ended."""
    search = (subject.receipt.get("training") or {}).get("search") or {}
    for trial in search.get("trials", ()):
        name = trial_name(trial["number"])
        run_id = subject.registry.find_run(TRIAL_TAG, f"{subject.version.run_id}/{trial['number']}")
        if run_id is None:
            yield f"{name} of the search is missing"
            continue
        facts = subject.registry.run_data(run_id)
        for key, value in trial["parameters"].items():
            if not _is_same_param(facts.params.get(key), value):
                yield f"{name} of the search (run {run_id}): parameter {key} is {facts.params.get(key)}, not {value}"
        if trial["valid_loss"] is not None and not _is_same(facts.metrics.get("valid_loss"), trial["valid_loss"]):
            loss = facts.metrics.get("valid_loss")
            yield f"{name} of the search (run {run_id}): valid_loss is {loss}, not {trial['valid_loss']}"
        if (state := facts.tags.get(TRIAL_STATE_TAG)) != trial["state"]:
            yield f"{name} of the search (run {run_id}): it is {state}, not {trial['state']}"
        losses = subject.registry.history(run_id, "train/valid_loss") if trial["valid_losses"] else set()
        for step, loss in trial["valid_losses"].items():
            if not any(at == int(step) and _is_same(value, loss) for at, value in losses):
                yield f"{name} of the search (run {run_id}): the validation loss at step {step} is not {loss}"


def _is_same_param(result: str | None, value: Any) -> bool:
    """MLflow keeps text; the keys of settings in a list may stand there in another order than in the receipt."""
    if result is None or result == str(value)[:LONGEST_PARAM]:
        return result is not None
    try:
        return bool(ast.literal_eval(result) == value) and isinstance(value, list)
    except (ValueError, SyntaxError, RecursionError):
        return False


def _is_same(result: float | None, expected: float) -> bool:
    return result == expected or (result is not None and result != result and expected != expected)


def _artifact(path: Path | None, name: str, expected: Any) -> list[str]:
    if path is None:
        return [f"{name} is missing"]
    try:
        result = json.loads(path.read_bytes())
    except ValueError:
        result = None
    return [] if result == expected else [f"{name} has changed"]


def _plots(subject: Subject, files: dict[str, Path]) -> Iterator[str]:
    held = dvc_outputs.held_outputs(subject.commit).get(paths.PLOTS.as_posix()) or []
    for file in held:
        copy = files.get(f"plots/{file.relpath}")
        if copy is None or md5_of(copy) != file.md5:
            yield f"plots/{file.relpath} {'is missing' if copy is None else 'has changed'}"


def _named(problems: dict[str, str], files: dict[str, Path]) -> list[str]:
    return [
        f"{name} in the registry {what}{f' ({files[name]})' if name in files else ''}"
        for name, what in problems.items()
    ]
