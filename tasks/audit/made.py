"""Audit of the stages' outputs in DVC against dvc.lock and the receipt: model files, reports, predictions and the rest."""

from __future__ import annotations

import json
from pathlib import Path

from tasks import paths
from tasks.audit.file_checks import erasure_note, file_problems, tree_problems
from tasks.audit.subject import Link, Subject, link
from tasks.dataset.rendered import TEMPLATES
from tasks.model_store.template_digests import template_digests
from tasks.runtime.files import content_digest, read_object
from tasks.runtime.plurals import count_of
from tasks.vcs.dvc_outputs import StoredFile

CHECKED_SEPARATELY = (
    paths.RAW,
    paths.CURATED,
    paths.MODEL,
    paths.TRAINING_REPORT,
    paths.METRICS,
    paths.PREDICTIONS,
    paths.VERDICT,
)
"""Outputs with a link of their own."""


def check_model_files(subject: Subject) -> Link:
    """Checks all files of the model except weights: configuration, tokenizer, chat template, generation settings."""
    files = subject.stored(paths.MODEL)
    recorded = subject.hashes[paths.MODEL.as_posix()]
    weights = {file.relpath for file in files if file.relpath.endswith(".safetensors")}
    problems = tree_problems(files, recorded, paths.MODEL, subject.digests, but=weights, by=str(paths.DVC_LOCK))
    problems += _of_receipt(subject, {file.relpath: file for file in files})
    return link("model files", problems, f"{count_of(len(files), 'file')} in DVC, {recorded[:12]}")


def _of_receipt(subject: Subject, files: dict[str, StoredFile]) -> list[str]:
    """The digests of files and templates in the receipt must be those in DVC. Receipts from before have neither.

    The weights are not read again: their digests in the receipt must give its digest of the weights, which has a link of its own.
    """
    recorded, problems = subject.receipt.get("files"), []
    if recorded is not None:
        weights = [[name, digest] for name, digest in sorted(recorded.items()) if _is_weights(name)]
        problems += (
            ["its weights in the receipt are others"] if content_digest(weights) != subject.receipt["weights"] else []
        )
        others = {name: digest for name, digest in recorded.items() if not _is_weights(name)}
        stored = {name: subject.digests.sha256(files[name].path) for name in others if name in files}
        problems += [
            f"{paths.MODEL / name} is not the receipt's" for name in others if stored.get(name) != others[name]
        ]
    if (digests := subject.receipt.get("templates")) is not None:
        file = files.get(TEMPLATES.name)
        if template_digests(read_object(file.path) if file else {}) != digests:
            problems.append(f"the templates in {paths.MODEL / TEMPLATES.name} are not the receipt's")
    return problems


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name


def check_training(subject: Subject) -> Link:
    """The training report in DVC must be the receipt's."""
    problems = _report(subject, paths.TRAINING_REPORT, "training")
    for key in ("threads", "effective_micro_batch_rows"):
        if subject.receipt.get(key) != subject.receipt["training"].get(key):
            problems.append(f"{key} in the receipt is not that of its training record")
    return link("training", problems, str(paths.TRAINING_REPORT))


def check_metrics(subject: Subject) -> Link:
    """The metrics in DVC must be the receipt's."""
    return link("metrics", _report(subject, paths.METRICS, "metrics"), str(paths.METRICS))


def check_predictions(subject: Subject) -> Link:
    """The predictions behind the verdict must have the bytes that dvc.lock records."""
    recorded = subject.hashes.get(paths.PREDICTIONS.as_posix())
    if recorded is None:
        return Link("predictions", True, "none: no stage of the version writes any")
    files = subject.stored(paths.PREDICTIONS)
    problems = tree_problems(files, recorded, paths.PREDICTIONS, subject.digests, by=str(paths.DVC_LOCK))
    return link("predictions", problems, f"{count_of(len(files), 'file')}, {recorded[:12]}{erasure_note(files)}")


def check_other_outputs(subject: Subject) -> Link:
    """Checks all other outputs that are in the local cache; a rebuild makes the rest again."""
    problems, absent, checked = [], [], 0
    for path, files in subject.outputs.items():
        if Path(path) in CHECKED_SEPARATELY:
            continue
        if files is None or all(file.is_missing for file in files):
            absent.append(path)
            continue
        missing = {file.relpath for file in files if file.is_missing}
        checked += len(files) - len(missing)
        if subject.hashes[path].endswith(".dir"):
            recorded = subject.hashes[path]
            problems += tree_problems(files, recorded, Path(path), subject.digests, missing, by=str(paths.DVC_LOCK))
        else:
            problems += file_problems(files, Path(path), subject.digests)
    summary = count_of(checked, "file")
    return link("other outputs", problems, f"{summary}; not in the cache: {', '.join(absent)}" if absent else summary)


def _report(subject: Subject, path: Path, key: str) -> list[str]:
    files = subject.stored(path)
    if problems := file_problems(files, path, subject.digests):
        return problems
    is_receipts = json.loads(files[0].path.read_bytes()) == subject.receipt[key]
    return [] if is_receipts else [f"{path} in DVC's cache is not the receipt's"]
