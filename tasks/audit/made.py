"""What the stages made, as DVC keeps it, against dvc.lock and the receipt: the model's files, reports, predictions, the rest."""

from __future__ import annotations

import json
from pathlib import Path

from tasks import paths
from tasks.audit.file_checks import checked_md5, told_of_erasures, wrong_tree
from tasks.audit.subject import Link, Subject, link
from tasks.runtime.plurals import count_of
from tasks.vcs import dvc_outputs
from tasks.vcs.dvc_outputs import StoredFile

OF_THEIR_OWN = (
    paths.RAW,
    paths.CURATED,
    paths.MODEL,
    paths.TRAINING_REPORT,
    paths.METRICS,
    paths.PREDICTIONS,
    paths.VERDICT,
)
"""Outputs that have links of their own."""


def check_model_files(subject: Subject) -> Link:
    """Every file of the model but its weights: adapter and model configuration, tokenizer, chat template, generation settings."""
    files = subject.stored(paths.MODEL)
    recorded = subject.hashes[paths.MODEL.as_posix()]
    weights = {file.relpath for file in files if file.relpath.endswith(".safetensors")}
    wrong = wrong_tree(files, recorded, paths.MODEL, but=weights, by=str(paths.DVC_LOCK))
    return link("model files", wrong, f"{count_of(len(files), 'file')} in DVC, {recorded[:12]}")


def check_training(subject: Subject) -> Link:
    """The record of the training that DVC keeps is the receipt's."""
    wrong = _report(subject, paths.TRAINING_REPORT, "training")
    for key in ("threads", "effective_micro_batch_rows"):
        if subject.receipt.get(key) != subject.receipt["training"].get(key):
            wrong.append(f"{key} in the receipt is not that of its training record")
    return link("training", wrong, str(paths.TRAINING_REPORT))


def check_metrics(subject: Subject) -> Link:
    """The metrics that DVC keeps are the receipt's."""
    return link("metrics", _report(subject, paths.METRICS, "metrics"), str(paths.METRICS))


def check_predictions(subject: Subject) -> Link:
    """The answers that the verdict was made of are byte for byte those of dvc.lock."""
    recorded = subject.hashes.get(paths.PREDICTIONS.as_posix())
    if recorded is None:
        return Link("predictions", True, "none: no stage of the version makes any")
    files = subject.stored(paths.PREDICTIONS)
    wrong = wrong_tree(files, recorded, paths.PREDICTIONS, by=str(paths.DVC_LOCK))
    return link("predictions", wrong, f"{count_of(len(files), 'file')}, {recorded[:12]}{told_of_erasures(files)}")


def check_other_outputs(subject: Subject) -> Link:
    """What else the stages made, as far as the local cache has it: a rebuild makes it again."""
    wrong, absent, checked = [], [], 0
    for path, files in dvc_outputs.outputs_in_cache(subject.commit).items():
        if Path(path) in OF_THEIR_OWN:
            continue
        if files is None or all(file.is_missing for file in files):
            absent.append(path)
            continue
        here = [file for file in files if not file.is_missing]
        checked += len(here)
        wrong += [
            _changed(Path(path), file)
            for file in here
            if not file.is_gone and checked_md5(file.path) != file.current_md5
        ]
        if subject.hashes[path].endswith(".dir"):
            wrong += wrong_tree(
                files, subject.hashes[path], Path(path), {f.relpath for f in files}, str(paths.DVC_LOCK)
            )
    good = count_of(checked, "file")
    return link("other outputs", wrong, f"{good}; not in the cache: {', '.join(absent)}" if absent else good)


def _report(subject: Subject, path: Path, key: str) -> list[str]:
    stored = subject.stored(path)[0]
    if checked_md5(stored.path) != stored.md5:
        return [_changed(path, stored)]
    if json.loads(stored.path.read_bytes()) != subject.receipt[key]:
        return [f"{path} in DVC's cache is not the receipt's"]
    return []


def _changed(path: Path, file: StoredFile) -> str:
    return f"{path / file.relpath if file.relpath else path} in DVC's cache has changed ({file.path})"
