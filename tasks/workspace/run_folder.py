"""Creates the folder of a run: a copy of its inputs, and links to all other files.

    begin()                     # in the project
    take_collected()            # in the run's folder, after the sources were collected
    hand_over("curate")         # in the run's folder, after a stage: copies its outputs to the project

Inputs are copied byte for byte if they changed. Outputs are hard links to the project's files. Other files that git does not track,
such as inbox/ or .venv/, are symbolic links to the project's (docs/decisions/0017-a-run-works-on-a-snapshot.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from tasks import paths
from tasks.runtime.files import write_text
from tasks.runtime.json_lines import append_line
from tasks.runtime.linked_folder import copy_all, copy_file, link_all
from tasks.runtime.run_origin import MARK, Snapshot, current_snapshot
from tasks.state.decisions import begin_decisions, read_decisions
from tasks.vcs import git
from tasks.vcs.dvc_repo import share_hashes
from tasks.workspace.copy_inputs import MAX_TRIES, copied_names, copy_inputs, link_the_rest, remove_others
from tasks.workspace.inputs import Inputs, outputs_of, state_files, write_tree

REPORTS_OF_RUNS = (paths.RECEIPT, paths.SEARCH_PLOTS, paths.DRIFT, paths.DRIFT_PLOT, paths.SUMMARY, paths.REPORT)
"""Reports of a run that are not outputs of stages."""


def begin() -> Path:
    """Takes a snapshot of the project in the working directory; returns the folder of the run.

    Raises:
        GitError: there is no git repository, or it has no commit.
    """
    git.require_repository()
    began = time.time_ns()
    root, work = Path.cwd(), paths.WORK.absolute()
    work.mkdir(parents=True, exist_ok=True)
    (work / MARK).unlink(missing_ok=True)
    for _ in range(MAX_TRIES):
        commit = git.head_commit()
        inputs, in_tree = copy_inputs(work)
        if git.head_commit() == commit:
            break
    outputs = _outputs(work)
    links = link_the_rest(work, outputs)
    remove_others(work, {*outputs, *links})
    for path in {*state_files(), *state_files(work)}:
        _copy(path, work / path)
    copy_all(paths.REPORTS, work / paths.REPORTS)
    tree = write_tree(replace(inputs, names=in_tree), work)
    snapshot = Snapshot(str(root), commit, tree, inputs.left_out, inputs.made, began)
    git.keep_tree(tree, snapshot.commit)
    write_text(work / MARK, json.dumps(asdict(snapshot)))
    _share(root, work, outputs, began)  # DVC needs the origin file
    return work


def take_collected() -> None:
    """After the sources were collected: takes over the raw rows, the pinned base, and the decisions made by sources."""
    snapshot = _current()
    root = Path(snapshot.project)
    for path in (paths.RAW_DVC, paths.BASE):
        _copy(root / path, path)
    _share(root, Path.cwd(), [paths.RAW.as_posix()], snapshot.began)
    begin_decisions()
    existing = set(read_decisions())
    for decision in read_decisions(root / paths.DECISIONS):
        if decision.who.startswith("source ") and decision not in existing:
            append_line(paths.DECISIONS, asdict(decision))
    inputs = Inputs(tuple(sorted({*copied_names(root), str(paths.DECISIONS)})), snapshot.made, snapshot.left_out)
    tree = write_tree(inputs, Path.cwd())
    git.keep_tree(tree, snapshot.commit)
    write_text(MARK, json.dumps(asdict(replace(snapshot, tree=tree))))


def hand_over(stage: str | None = None) -> None:
    """Copies the outputs of a stage, and the reports, to the project.

    dvc.lock is last: after a kill there are at most outputs that it does not list, which the next run restores from DVC's cache.
    """
    snapshot = _current()
    root = Path(snapshot.project)
    if stage is not None:
        outputs = set(outputs_of(paths.DVC_YAML, stage))
        _share(Path.cwd(), root, [name for name in _outputs(Path()) if name in outputs], snapshot.began)
    copy_all(paths.REPORTS, root / paths.REPORTS, keep=_reports_of_users(root / paths.REPORTS))
    for path in (paths.ROUND, paths.START, paths.DVC_LOCK):
        if path.exists():
            _copy(path, root / path)


def _current() -> Snapshot:
    snapshot = current_snapshot()
    assert snapshot is not None, "not in the folder of a run"
    return snapshot


def _outputs(folder: Path) -> list[str]:
    """The paths that runs write: outputs of stages, raw rows, reports."""
    return sorted({*outputs_of(folder / paths.DVC_YAML), paths.RAW.as_posix(), paths.REPORTS.as_posix()})


def _share(source: Path, target: Path, names: Iterable[str], began: int) -> None:
    """Links outputs, and copies DVC's cached hashes of them. Reports are not linked: they are small, and are copied."""
    linked: list[str] = []
    for name in names:
        if Path(name) != paths.REPORTS and paths.REPORTS not in Path(name).parents:
            linked += [f"{name}/{inner}" if inner else name for inner in link_all(source / name, target / name)]
    if linked:
        share_hashes(source, target, linked, began)


def _reports_of_users(reports: Path) -> Collection[str]:
    """Names of the reports in the project that no run writes."""
    runs = {path.relative_to(paths.REPORTS).parts[0] for path in REPORTS_OF_RUNS}
    for name in outputs_of(paths.DVC_YAML):
        if paths.REPORTS in Path(name).parents:
            runs.add(Path(name).relative_to(paths.REPORTS).parts[0])
    return {path.name for path in reports.iterdir()} - runs if reports.is_dir() else ()


def _copy(source: Path, target: Path) -> None:
    """Copies a file if it differs; removes the target if there is no source."""
    if not source.exists():
        target.unlink(missing_ok=True)
    elif not target.is_file() or source.read_bytes() != target.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(str(source), str(target))
