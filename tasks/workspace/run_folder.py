"""Makes the folder that a run works in: a copy of its inputs, links to everything else.

    begin()                     # in the project
    take_collected()            # in the run's folder, after the sources were collected
    hand_over("curate")         # in the run's folder, after a stage: people look at the project

Inputs are copied byte for byte, and only where they changed. Outputs are hard links of the project's. Other files that git does not
track, such as inbox/ or .venv/, are the project's own, by a symbolic link (docs/decisions/0017-a-run-works-on-a-snapshot.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from tasks import paths
from tasks.runtime.files import append_line, write_text
from tasks.runtime.linked_folder import copy_all, copy_file, link_all
from tasks.runtime.run_origin import MARK, Snapshot, current_snapshot
from tasks.state.decisions import begin_decisions, read_decisions
from tasks.vcs import git
from tasks.vcs.dvc_repo import share_hashes
from tasks.workspace.copy_inputs import MOST_TRIES, copied_names, copy_inputs, link_the_rest, remove_others
from tasks.workspace.inputs import Inputs, outputs_of, state_files, write_tree

REPORTS_OF_RUNS = (paths.RECEIPT, paths.SEARCH_PLOTS, paths.DRIFT, paths.DRIFT_PLOT, paths.SUMMARY)
"""What a run writes beside the outputs of stages."""


def begin() -> Path:
    """Takes the snapshot of the project in which the process works; returns the folder to work in.

    Raises:
        GitError: there is no git repository, or it has no commit.
    """
    git.require_repository()
    began = time.time_ns()
    root, work = Path.cwd(), paths.WORK.absolute()
    work.mkdir(parents=True, exist_ok=True)
    (work / MARK).unlink(missing_ok=True)
    for _ in range(MOST_TRIES):
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
    _share(root, work, outputs, began)  # DVC looks at the mark
    return work


def take_collected() -> None:
    """After the sources were collected: takes over the raw rows, the pinned base, and the decisions that the sources made."""
    snapshot = _here()
    root = Path(snapshot.project)
    for path in (paths.RAW_DVC, paths.BASE):
        _copy(root / path, path)
    _share(root, Path.cwd(), [paths.RAW.as_posix()], snapshot.began)
    begin_decisions()
    known = set(read_decisions())
    for decision in read_decisions(root / paths.DECISIONS):
        if decision.who.startswith("source ") and decision not in known:
            append_line(paths.DECISIONS, asdict(decision))
    inputs = Inputs(tuple(sorted({*copied_names(root), str(paths.DECISIONS)})), snapshot.made, snapshot.left_out)
    tree = write_tree(inputs, Path.cwd())
    git.keep_tree(tree, snapshot.commit)
    write_text(MARK, json.dumps(asdict(replace(snapshot, tree=tree))))


def hand_over(stage: str | None = None) -> None:
    """Gives the project what a stage made, and the reports.

    dvc.lock comes last: a kill leaves at most outputs that it does not name, which the next run takes from DVC's cache.
    """
    snapshot = _here()
    root = Path(snapshot.project)
    if stage is not None:
        made = set(outputs_of(paths.DVC_YAML, stage))
        _share(Path.cwd(), root, [name for name in _outputs(Path()) if name in made], snapshot.began)
    copy_all(paths.REPORTS, root / paths.REPORTS, keep=_of_others(root / paths.REPORTS))
    for path in (paths.ROUND, paths.START, paths.DVC_LOCK):
        if path.exists():
            _copy(path, root / path)


def _here() -> Snapshot:
    snapshot = current_snapshot()
    assert snapshot is not None, "not in the folder of a run"
    return snapshot


def _outputs(folder: Path) -> list[str]:
    """What runs make: outputs of stages, raw rows, reports."""
    return sorted({*outputs_of(folder / paths.DVC_YAML), paths.RAW.as_posix(), paths.REPORTS.as_posix()})


def _share(source: Path, target: Path, names: Iterable[str], began: int) -> None:
    """Links outputs, and lets DVC know the hashes that it knows of them already. Reports are copied: they are small."""
    linked: list[str] = []
    for name in names:
        if Path(name) != paths.REPORTS and paths.REPORTS not in Path(name).parents:
            linked += [f"{name}/{each}" if each else name for each in link_all(source / name, target / name)]
    if linked:
        share_hashes(source, target, linked, began)


def _of_others(reports: Path) -> Collection[str]:
    """Reports in the project that no run writes, by name."""
    runs = {path.relative_to(paths.REPORTS).parts[0] for path in REPORTS_OF_RUNS}
    for name in outputs_of(paths.DVC_YAML):
        if paths.REPORTS in Path(name).parents:
            runs.add(Path(name).relative_to(paths.REPORTS).parts[0])
    return {path.name for path in reports.iterdir()} - runs if reports.is_dir() else ()


def _copy(source: Path, target: Path) -> None:
    """A file, copied if it is another; removed where there is none."""
    if not source.exists():
        target.unlink(missing_ok=True)
    elif not target.is_file() or source.read_bytes() != target.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(str(source), str(target))
