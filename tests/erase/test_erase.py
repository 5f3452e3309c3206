"""Erasing a row: its text is in no file of Strop any more, and everything else stays unchanged. With real git and DVC."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.dataworld import SOURCES, collect
from support.erasing import REFUSED, SECRET, files_with, ids_of, quarantined, run_data, sides
from support.project import params, write_params
from support.toy_rows import write_jsonl
from support.toyserving import SERVED, fill_spool

from tasks import paths
from tasks.erase.stage import erase
from tasks.lineage.select_rows import select_rows
from tasks.state.decisions import record_decision

pytestmark = pytest.mark.usefixtures("warm")


def test_no_byte_of_an_erased_row_is_left_in_project_cache_and_remote(world: Path) -> None:
    store = world.parent / "store"
    assert {path.parts[-4] for path in files_with(SECRET, world / ".dvc" / "cache")}, "or this test shows nothing"
    assert files_with(SECRET, store)
    left = Path(".strop/rendering-of-a-killed-run/train.parquet")
    left.parent.mkdir(parents=True)
    left.write_text(SECRET)
    erased = erase(ids_of(SECRET), why="asked to by the person")
    assert erased is not None
    assert erased.remotes == ["store"]
    assert files_with(SECRET, world, store) == []
    run_data()
    assert files_with(SECRET, world, store) == []
    assert not {*erased.plan.ids} & {*sides()}


def test_a_row_in_quarantine_is_erased_too(world: Path) -> None:
    assert files_with(REFUSED, world)
    assert erase(ids_of(REFUSED) or [quarantined(REFUSED)], why="asked to") is not None
    assert files_with(REFUSED, world, world.parent / "store") == []


def test_an_erased_record_from_another_source_is_stored_without_its_text(world: Path) -> None:
    erase(ids_of(SECRET), why="asked to")
    shutil.copy("inbox/qa.jsonl", "inbox/other.jsonl")
    other = {"name": "other", "path": "inbox/other*", "shape": "alpaca", "family": "qa"}
    write_params(world, params("base", [*SOURCES, other], validate={"max_refused_share": 0.5}))
    run_data()
    assert files_with(SECRET, world, world.parent / "store") == []


def test_rows_made_from_an_erased_row_are_erased_too(world: Path) -> None:
    (parent,) = ids_of("谁住在那里")
    recipe = {"recipe": "reword", "parents": [parent]}
    made = {"instruction": "谁？", "input": "", "output": "王小明，九百号", "strop_synthetic": recipe}
    write_jsonl(world / "inbox/qa-3.jsonl", [made])
    run_data()
    erased = erase([parent], why="asked to")
    assert erased is not None
    assert len(erased.plan.ids) == 2
    assert files_with("王小明，九百号", world, world.parent / "store") == []


def test_forgotten_rows_can_be_erased_later(world: Path) -> None:
    ids = ids_of(SECRET)
    for row_id in ids:
        record_decision("forget", row_id, "not wanted")
    run_data()
    assert files_with(SECRET, world)
    erase(ids, why="asked to")
    assert files_with(SECRET, world, world.parent / "store") == []


def test_two_rows_of_one_batch_may_be_erased_one_after_the_other(world: Path) -> None:
    """The first erasure changes the files in which rows are searched."""
    refused = quarantined(REFUSED)
    erase([ids_of(SECRET)[0]], why="asked to")
    erase([refused], why="asked to")
    erase(ids_of(SECRET), why="asked to")
    for text in (SECRET, REFUSED):
        assert files_with(text, world, world.parent / "store") == []


def test_the_same_record_in_another_family_is_erased_too(world: Path) -> None:
    shutil.copy("inbox/qa.jsonl", "inbox/other.jsonl")
    other = {"name": "other", "path": "inbox/other*", "shape": "alpaca", "family": "instruction"}
    write_params(world, params("base", [*SOURCES, other], validate={"max_refused_share": 0.5}))
    run_data()
    erase(ids_of(SECRET)[:1] + ids_of(SECRET)[1:2], why="asked to")
    run_data()
    assert files_with(SECRET, world, world.parent / "store") == []


def test_a_row_that_is_collected_again_in_another_record_can_be_erased_again(world: Path) -> None:
    row_id = ids_of(SECRET + "，他叫什么")[0]
    erase(ids_of(SECRET), why="asked to")
    run_data()
    again = {"instruction": SECRET + "，他叫什么？", "input": "", "output": "王小明。", "time": "12:00"}
    write_jsonl(world / "inbox/qa-4.jsonl", [again])
    run_data()
    assert files_with(SECRET, paths.RAW)
    assert erase([row_id], why="asked to") is not None
    assert files_with(SECRET, world, world.parent / "store") == []


def test_no_byte_of_an_erased_correction_is_left_in_the_records_of_a_server(world: Path) -> None:
    text = "安妮住在里昂十号"
    fill_spool(text)
    write_params(world, params("base", [*SOURCES, SERVED], validate={"max_refused_share": 0.5}))
    collect("validate", "curate")
    (row,) = select_rows([], [f"rejected={text}"])
    assert files_with(text, paths.RAW)
    assert files_with(text, paths.SPOOL)
    assert erase([row], why="asked to") is not None
    assert files_with(text, world) == []
