"""The evaluated test rows of a version, from the outputs of its commit: what the server gets, and what was answered then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import DataError, VersioningError
from tasks.scoring.targets import NO_FRAME, Frame
from tasks.vcs.dvc_outputs import StoredFile, stored_files

PREDICTIONS = "candidate.parquet"
OF_THE_ANSWER = ("row_id", "prediction", "is_cut", "is_target_too_long", "bits")
OF_THE_TEST = ("row_id", "family", "kind", "prompt_ids", "target", "before", "after", "opens_thought", "question")


@dataclass(frozen=True)
class CheckRow:
    row_id: str
    family: str
    kind: str
    prompt_ids: list[int]
    target: str
    prediction: str
    """The answer of the evaluation."""
    is_cut: bool = False
    is_target_too_long: bool = False
    frame: Frame = NO_FRAME
    opens_thought: bool = False
    question: str = ""


def rows_of_version(commit: str) -> list[CheckRow]:
    """The rows of a version's commit that it answered with generated text.

    Raises:
        DataError: there are none.
        VersioningError: an output of the commit cannot be obtained.
    """
    test = _table(_file(commit, paths.RENDERED, "test.parquet"), OF_THE_TEST)
    answers = {row["row_id"]: row for row in _table(_file(commit, paths.PREDICTIONS, PREDICTIONS), OF_THE_ANSWER)}
    rows = [_row(row, answers[row["row_id"]]) for row in test if row["row_id"] in answers and row.get("prompt_ids")]
    generated = [row for row, answer in rows if answer.get("bits") is None]
    if not generated:
        raise DataError("has no test rows that were answered with generated text", where=commit[:12])
    return generated


def choose_rows(rows: Sequence[CheckRow], most: int) -> list[CheckRow]:
    """At most so many rows: the families in turn, the rows of each by their id, which is a digest."""
    if len(rows) <= most:
        return [*rows]
    families: dict[str, list[CheckRow]] = {}
    for row in sorted(rows, key=lambda row: row.row_id):
        families.setdefault(row.family, []).append(row)
    longest = max(map(len, families.values()))
    in_turn = [rows[place] for place in range(longest) for _, rows in sorted(families.items()) if place < len(rows)]
    return in_turn[:most]


def _row(row: dict[str, Any], answer: dict[str, Any]) -> tuple[CheckRow, dict[str, Any]]:
    return (
        CheckRow(
            row["row_id"],
            row["family"],
            row["kind"],
            row["prompt_ids"],
            row["target"],
            answer["prediction"] or "",
            bool(answer.get("is_cut")),
            bool(answer.get("is_target_too_long")),
            Frame(row.get("before") or "", row.get("after") or ""),
            bool(row.get("opens_thought")),
            row.get("question") or "",
        ),
        answer,
    )


def _file(commit: str, output: Path, name: str) -> Path:
    """A file of an output at a commit; fetched if it is not in the cache."""
    file = _named(stored_files(commit, output, listing_only=True), name)
    if file is not None and file.is_missing:
        file = _named(stored_files(commit, output), name)
    if file is None or file.is_gone:
        why = "rows were erased from it" if file else "is not in the version"
        raise VersioningError(
            f"{output / name} {why}", where=commit[:12], fix="Train and judge a new version: strop run"
        )
    return file.path


def _named(files: list[StoredFile], name: str) -> StoredFile | None:
    return next((file for file in files if file.relpath == name), None)


def _table(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    columns = [name for name in names if name in pq.read_schema(path).names]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    return rows
