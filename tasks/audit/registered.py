"""Audit of a version in MLflow: the model's files, the tags, and the run's parameters, metrics, curves and artifacts."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.audit.mlmodel import MLMODEL, mlmodel_problems
from tasks.audit.subject import Link, Subject, link
from tasks.base.pin import base_of
from tasks.model_store.approvals import approvals_of, on_page
from tasks.model_store.logged_files import (
    LOGGED,
    changed_files,
    differences_from_trained,
    files_digest,
)
from tasks.runtime.files import content_digest
from tasks.runtime.plurals import count_of
from tasks.tracking.live_metrics import read_points, trial_name
from tasks.tracking.run_record import LONGEST_PARAM, numbers_of, params_of
from tasks.tracking.runs import RunData
from tasks.tracking.tags import (
    DATASET_TAG,
    FILES_TAG,
    RECEIPT_TAG,
    REQUIRED_TAGS,
    RESTORED_TAG,
    TRIAL_STATE_TAG,
    TRIAL_TAG,
    WEIGHTS_TAG,
    facts_of,
    version_tags,
)
from tasks.tracking.version_links import with_addresses


def check_registry_files(subject: Subject) -> Link:
    """Every file that the registry would load must be the logged one, by the record in the version commit.

    Versions from before the record existed are compared with DVC's files, except for files that MLflow writes.
    """
    content, version = subject.blob(LOGGED), subject.version
    record: dict[str, Any] | None = json.loads(content) if content else None
    files = {name: path for name, path in subject.logged_files.items() if not name.endswith(".safetensors")}
    # loading the version by its number must give the audited files
    place = subject.registry.foreign_location(version)
    misplaced = [f"the registry loads v{version.version} from {place}, not from its own model"] if place else []
    if record is None or record["source"] != version.source or RESTORED_TAG in version.tags:
        return _compare_with_dvc(subject, files, misplaced, was_recorded=record is not None)
    recorded = {name: digest for name, digest in record["files"].items() if not name.endswith(".safetensors")}
    changes = changed_files(recorded, subject.digests.sha256_of_files(files))
    problems = misplaced + _describe(changes, files)
    if (tag := version.tags.get(FILES_TAG)) not in (None, files_digest(record)):
        problems.append(f"the registry's tag {FILES_TAG} is {str(tag)[:12]}, {LOGGED} has {files_digest(record)[:12]}")
    return link("registry files", problems, f"{count_of(len(files), 'file')} as they were logged")


def _compare_with_dvc(subject: Subject, files: dict[str, Path], misplaced: list[str], was_recorded: bool) -> Link:
    trained = {
        file.relpath: file.path for file in subject.stored(paths.MODEL) if not file.relpath.endswith(".safetensors")
    }
    differences = differences_from_trained(trained, files)
    if mlmodel := files.get(MLMODEL):
        is_adapter = "adapter_config.json" in trained
        if lines := mlmodel_problems(
            mlmodel, base_of(subject.receipt["base"]) if is_adapter else None, subject.digests
        ):
            differences[MLMODEL] = "; ".join(lines)
    else:
        differences[MLMODEL] = "is not there"
    problems = misplaced + _describe(differences, files)
    why = "registered before the digests were recorded"
    if was_recorded:
        why = "logged again since, by strop registry rebuild"
    summary = f"{why}; {count_of(len(files), 'file')} equivalent to DVC's, except those that only MLflow writes"
    return link("registry files", problems, summary, unrecorded=True)


def check_run(subject: Subject) -> Link:
    """MLflow's copies of parameters, metrics, curves, reports and digests must be the receipt's."""
    run_id, receipt = subject.version.run_id, subject.receipt
    run = subject.registry.run_data(run_id)
    problems = [*_tags(subject, run), *_values(subject, run), *_curves(subject, run)]
    problems += ["everything was deleted"] if run.is_deleted else []
    problems += _description(subject)
    files = subject.run_files
    expected = {paths.RECEIPT: receipt, paths.VERDICT: receipt["verdict"], paths.METRICS: receipt["metrics"]}
    for path, content in expected.items():
        problems += _artifact(files.get(path.name), path.name, content)
    problems += _plots(subject, files)
    problems += trial_problems(subject)
    summary = f"{count_of(len(run.params), 'parameter')}, {count_of(len(run.metrics), 'metric')}, {count_of(len(files), 'file')}"
    return link("run", [f"{problem} in run {run_id}" for problem in problems], summary)


def _tags(subject: Subject, run: RunData) -> Iterator[str]:
    receipt = subject.receipt
    expected = version_tags(facts_of(receipt, content_digest(receipt)))
    for key in (RECEIPT_TAG, WEIGHTS_TAG, DATASET_TAG):
        if run.tags.get(key) != expected[key]:
            yield f"tag {key} is {run.tags.get(key)}, not {expected[key]}"
    for key, value in expected.items():
        result = subject.version.tags.get(key)
        has_own_link = key in (RECEIPT_TAG, DATASET_TAG)
        if not has_own_link and result != value and (result is not None or key in REQUIRED_TAGS):
            yield f"tag {key} of the version is {result}, not {value}"
    if receipt["dataset"] not in run.datasets:
        yield f"dataset {receipt['dataset']} is not"


def _description(subject: Subject) -> list[str]:
    """The version's description must be the page in its commit, with approvals of the ledger. Versions from before it was recorded
    are not compared."""
    page, version = subject.blob(paths.VERSION_PAGE), subject.version
    if page is None:
        return []
    expected = with_addresses(page.decode("utf-8"), subject.registry.experiment_id, version.run_id)
    approvals = approvals_of((node.entry for node in subject.chain), version.version)
    # a promotion that was killed, or refused by the registry, is in the ledger and not yet on the page
    pages = {expected, *(on_page(expected, approvals[: n + 1]) for n in range(len(approvals)))}
    problem = f"the description of the version is not {paths.VERSION_PAGE} (strop registry rebuild restores it)"
    return [problem] if version.description not in pages else []


def _values(subject: Subject, run: RunData) -> Iterator[str]:
    receipt, run_id = subject.receipt, subject.version.run_id
    for key, value in params_of(receipt).items():
        if not _is_same_param(run.params.get(key), value):
            yield f"parameter {key} is {run.params.get(key)}, not {value}"
    for name, number in numbers_of(receipt["metrics"]).items():
        if not _is_same(run.metrics.get(name), number):
            yield f"metric {name} is {run.metrics.get(name)}, not {number}"
        elif other := [value for _, value in subject.registry.history(run_id, name) if not _is_same(value, number)]:
            yield f"metric {name} was {other[0]} at some time, not {number}"
    for name, value in subject.registry.model_metrics(subject.version.source):
        if _is_same(run.metrics.get(name), value):
            continue
        points = subject.registry.history(run_id, name)  # MLflow may store an earlier point of a curve with the model
        if not any(_is_same(value, point) for _, point in points):
            yield f"metric {name} of the logged model is {value}, not {run.metrics.get(name)}"


def _curves(subject: Subject, run: RunData) -> Iterator[str]:
    if subject.retirement:
        return  # they were among the files of its model
    stored = next((file for file in subject.stored(paths.MODEL) if file.relpath == "curves.jsonl"), None)
    points = read_points(stored.path) if stored else []
    for name in sorted({point.name for point in points}):
        logged = subject.registry.history(subject.version.run_id, name) if name in run.metrics else set()
        values = dict[int, list[float]]()
        for step, value in logged:
            values.setdefault(step, []).append(value)
        for point in (p for p in points if p.name == name):
            if not any(_is_same(value, point.value) for value in values.get(point.step, ())):
                yield f"curve {name} at step {point.step} is {values.get(point.step)}, not {point.value}"
                break
        if values and not any(_is_same(run.metrics[name], value) for value in values[max(values)]):
            yield f"metric {name} is {run.metrics[name]}, its curve ends at {values[max(values)]}"


def trial_problems(subject: Subject) -> Iterator[str]:
    """Problems of a search's child runs: parameters, validation losses and states of the trials."""
    search = (subject.receipt.get("training") or {}).get("search") or {}
    for trial in search.get("trials", ()):
        name = trial_name(trial["number"])
        run_id = subject.registry.find_run(TRIAL_TAG, f"{subject.version.run_id}/{trial['number']}")
        if run_id is None:
            yield f"{name} of the search is missing"
            continue
        run = subject.registry.run_data(run_id)
        for key, value in trial["parameters"].items():
            if not _is_same_param(run.params.get(key), value):
                yield f"{name} of the search (run {run_id}): parameter {key} is {run.params.get(key)}, not {value}"
        if trial["valid_loss"] is not None and not _is_same(run.metrics.get("valid_loss"), trial["valid_loss"]):
            loss = run.metrics.get("valid_loss")
            yield f"{name} of the search (run {run_id}): valid_loss is {loss}, not {trial['valid_loss']}"
        if (state := run.tags.get(TRIAL_STATE_TAG)) != trial["state"]:
            yield f"{name} of the search (run {run_id}): it is {state}, not {trial['state']}"
        losses = subject.registry.history(run_id, "train/valid_loss") if trial["valid_losses"] else set()
        for step, loss in trial["valid_losses"].items():
            if not any(at == int(step) and _is_same(value, loss) for at, value in losses):
                yield f"{name} of the search (run {run_id}): the validation loss at step {step} is not {loss}"


def _is_same_param(result: str | None, value: Any) -> bool:
    """MLflow stores text; settings in a list may have their keys in another order than in the receipt."""
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
    stored = subject.outputs.get(paths.PLOTS.as_posix()) or []
    for file in stored:
        copy = files.get(f"plots/{file.relpath}")
        if copy is None or subject.digests.md5(copy) != file.md5:
            yield f"plots/{file.relpath} {'is missing' if copy is None else 'has changed'}"


def _describe(problems: dict[str, str], files: dict[str, Path]) -> list[str]:
    return [
        f"{name} in the registry {what}{f' ({files[name]})' if name in files else ''}"
        for name, what in problems.items()
    ]
