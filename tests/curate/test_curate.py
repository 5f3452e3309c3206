"""Room `curate`: cleaning, exact deduplication, the split, and one part per batch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import params, write_params
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.config import load_config
from tasks.curate.sides.split import content_key, input_text, split_of
from tasks.curate.stage import run
from tasks.dataset.read import read_dataset
from tasks.errors import DataError
from tasks.records.row import NO_TEXT
from tasks.records.segmentation import normalise
from tasks.runtime.files import file_digest, read_json
from tasks.state.decisions import record_decision


def row(**fields: str) -> dict[str, str]:
    return {"family": "qa", **NO_TEXT, **fields}


def input_key(fields: dict[str, str]) -> str:
    return normalise(input_text(fields))


def curate(root: Path, **settings: Any) -> dict[str, Any]:
    write_params(root, params("base", [], curate=settings))
    run(load_config())
    return read_json(paths.CURATE_REPORT)


@given(st.text(min_size=1).filter(normalise), st.text())
def test_all_answers_to_one_prompt_are_in_one_split_whatever_their_shape(question: str, answer: str) -> None:
    as_input = input_key(row(input=question, output=answer))
    as_instruction = input_key(row(instruction=question, output="another"))
    assert split_of(as_input, "s", 0.1, 0.2) == split_of(as_instruction, "s", 0.1, 0.2)


def test_the_split_has_the_shares_of_the_settings() -> None:
    splits = [split_of(str(i), "salt", 0.1, 0.2) for i in range(20_000)]
    assert abs(splits.count("test") / 20_000 - 0.2) < 0.01
    assert abs(splits.count("valid") / 20_000 - 0.1) < 0.01


def test_rows_alike_but_for_case_and_width_are_one_row() -> None:
    first, second = row(input="Ｗhat is　this?", output="A CAT"), row(input="what is this?", output="a cat")
    keys = [content_key(each, input_key(each), normalise(each["output"])) for each in (first, second)]
    assert keys[0] == keys[1]


def test_a_duplicate_is_dropped_with_the_row_that_leads_it(project: Path) -> None:
    rows = toy_rows()
    again = {**rows[3], "index": len(rows)}
    write_part([*rows, again])
    report = curate(project)
    assert report["dropped"] == {"duplicate": 1}
    dropped = pq.read_table(paths.QUARANTINE / "curate" / "000001-b1.parquet").to_pylist()
    assert [(d["row_id"], d["reason"], d["value"]) for d in dropped] == [
        (again["row_id"], "duplicate", rows[3]["row_id"])
    ]
    assert [d["index"] for d in dropped] == [again["index"]]
    assert report["rows"] == report["kept"] + 1


def test_the_report_counts_what_cleaning_took_out_by_reason_and_piece(project: Path) -> None:
    rows = toy_rows()
    for each in rows[:5]:
        each["output"] = f"  {each['output']} &amp;\x0b<b>more</b></s>"
    write_part(rows)
    report = curate(project, near_duplicates="off", decontaminate=False)
    assert report["cleaned"] == dict.fromkeys(("control_characters", "end_markers", "markup", "white_space"), 5)
    assert report["removed"] == {
        "control_characters": {"U+000B": 5},
        "end_markers": {"</s>": 5},
        "markup": {"&amp;": 5, "<b>": 5, "</b>": 5},
        "white_space": {"U+0020": 10},
    }


def test_a_new_batch_leaves_the_parts_before_it_untouched(project: Path) -> None:
    rows = toy_rows()
    write_part(rows[:40])
    curate(project)
    before = file_digest(paths.CURATED / "000001-b1.parquet")
    write_part(rows[20:], "000002-b2.parquet")
    report = curate(project)
    assert file_digest(paths.CURATED / "000001-b1.parquet") == before
    assert report["dropped"] == {"duplicate": 20}
    assert sorted(read_dataset()["row_id"].to_pylist()) == sorted(r["row_id"] for r in rows)


def test_a_part_that_was_edited_in_place_is_made_anew(project: Path) -> None:
    write_part(toy_rows())
    curate(project)
    part = paths.CURATED / "000001-b1.parquet"
    before = file_digest(part)
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[::-1])  # a hard link of what the cache keeps
    curate(project)
    assert file_digest(part) == before


def test_batches_one_by_one_give_the_bytes_of_one_run_over_all(project: Path) -> None:
    rows = toy_rows()
    for number, part in enumerate((rows[:25], rows[15:45], rows[40:]), start=1):
        write_part(part, f"{number:06d}-b{number}.parquet")
        curate(project)
    step_by_step = {p.name: file_digest(p) for p in paths.CURATED.glob("*")}
    shutil.rmtree(".strop")
    curate(project)
    assert {p.name: file_digest(p) for p in paths.CURATED.glob("*")} == step_by_step


def test_an_excluded_batch_gives_its_duplicates_back(project: Path) -> None:
    rows = toy_rows()
    write_part(rows[:40])
    write_part(rows[20:], "000002-b2.parquet")
    curate(project)
    (paths.VALIDATED / "000001-b1.parquet").unlink()
    record_decision("exclude", "b1", "a test")
    assert curate(project)["kept"] == len(rows) - 20


def test_a_dataset_without_a_test_row_is_reported_in_one_line(project: Path) -> None:
    write_part(toy_rows(2, 0))
    with pytest.raises(DataError, match=r"in the test split, so no model could be shown to be better"):
        curate(project, test_share=0.0)
