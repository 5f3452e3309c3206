"""The anchors (`evaluate.anchors`): rows that a project keeps fixed, and that are tested in every round, to measure forgetting.

A line of JSON has the fields of a row: `family`, `input`, `output`, and optionally `instruction`, `system`, `history`, `language`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.base.generation import answer_reader
from tasks.dataset.rendered import ANCHORS
from tasks.errors import ConfigError, DataError
from tasks.prompts.tokens.tokens import Dropped
from tasks.records.languages import row_language
from tasks.records.row import row_id_of
from tasks.records.shapes import Problem, to_fields
from tasks.render.forms.answers import test_row
from tasks.render.forms.forms import TEST_SCHEMA, Material, Row
from tasks.render.row_store import PORTION_ROWS
from tasks.runtime.files import file_digest, folder_digest, read_batches, write_parquet
from tasks.runtime.json_lines import read_log
from tasks.runtime.plurals import count_of

logger = logging.getLogger(__name__)

FIX = "Fix the line: {family, input, output}, and optionally instruction, system, history and language"
ANSWERED = ("instruction", "input", "history")


def read_anchors(path: Path, families: Sequence[str]) -> list[Row]:
    """The anchors of a file, or of the *.jsonl files of a folder.

    Args:
        families: those with templates.

    Raises:
        ConfigError: there is no such file, or it has no rows.
        DataError: a line is not a row of one of the families.
    """
    rows: dict[str, Row] = {}
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:

        def parse(file: Path = file, **record: Any) -> Row:
            row = _parse(record, file.stem, families)
            if rows.setdefault(row["row_id"], row) is not row:
                raise ValueError("the same row as an earlier line")
            return row

        read_log(file, parse, "an anchor", FIX)
    if not rows:
        raise ConfigError(f"{path} has no anchors", where="evaluate.anchors", fix="Write them, a row per line of JSON")
    return list(rows.values())


def _parse(record: dict[str, Any], source: str, families: Sequence[str]) -> Row:
    family = record.get("family")
    if family not in families:
        raise ValueError(f"`family` is {family!r}, which has no templates; there are {', '.join(families)}")
    fields = to_fields(record, "row", {})
    if isinstance(fields, Problem):
        raise ValueError(f"{fields.code}: {fields.field}")
    row: Row = {"batch": "", "source": source, "use": "anchor", **fields, "family": family}
    row["language"] = record.get("language") or row_language(row)
    return {**row, "row_id": row_id_of(row)}


def write_anchors(path: Path, material: Material, training: Path) -> dict[str, Any]:
    """Writes data/rendered/anchors.parquet; returns its entry in the report.

    Args:
        training: the training rows (COLUMNS); one with the question of an anchor is a warning.
    """
    anchors = read_anchors(path, sorted(material.families))
    results = material.renderer.render(anchors, material.choose, all_turns=False)
    decode = answer_reader(material.tokenizer)
    rows = [test_row(each, material.families, decode) for each in results if not isinstance(each, Dropped)]
    if not rows:
        raise DataError("no anchor fits into render.max_length_tokens", where=str(path), fix="Raise it")
    write_parquet(ANCHORS, pa.Table.from_pylist(rows, TEST_SCHEMA))
    left_out = Counter(each.reason for each in results if isinstance(each, Dropped))
    for reason, count in left_out.items():
        logger.warning(f"render: {count_of(count, 'anchor')} left out: {reason}")
    if trained := _rows_with_these_questions(anchors, training):
        logger.warning(
            f"render: {count_of(trained, 'training row')} with the question of an anchor: the anchors then measure training, not "
            f"forgetting. Declare {path} as a source with `use: benchmark` and shape `row`: such rows are then dropped"
        )
    digest = folder_digest(path) if path.is_dir() else file_digest(path)
    counts = {"rows": len(rows), "left_out": dict(left_out), "in_training": trained}
    return {"anchors": path.as_posix(), "digest": digest, **counts}


def _rows_with_these_questions(anchors: list[Row], training: Path) -> int:
    questions = _questions(pa.Table.from_pylist([{name: row[name] for name in ANSWERED} for row in anchors]))
    with pq.ParquetFile(training) as file:
        portions = read_batches(file, PORTION_ROWS, columns=list(ANSWERED), use_threads=False)
        matches = (pc.is_in(_questions(pa.Table.from_batches([part])), value_set=questions) for part in portions)
        return sum(pc.sum(each).as_py() or 0 for each in matches)


def _questions(rows: pa.Table) -> pa.Array:
    """(rows,) the texts of the question, apart from case, width (`？` is `?`) and white space."""
    texts = [pc.utf8_trim_whitespace(rows[name].cast(pa.string())) for name in ANSWERED]
    joined = pc.binary_join_element_wise(texts[0], texts[1], " ")
    joined = pc.binary_join_element_wise(pc.utf8_trim_whitespace(joined), texts[2], "\n")
    joined = pc.utf8_lower(pc.utf8_normalize(joined, "NFKC"))
    joined = pc.replace_substring_regex(joined, r"\s+", " ")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
