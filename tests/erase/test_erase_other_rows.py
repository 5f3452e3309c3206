"""What an erasure leaves as it was: other rows, their splits, the batch and its source."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.dataworld import SOURCES
from support.erasing import SECRET, ids_of, run_data, sides
from support.project import params, write_params

from tasks import paths
from tasks.dataset.read import read_dataset
from tasks.erase.stage import erase
from tasks.lineage.select_rows import select_rows
from tasks.runtime.files import read_json
from tasks.state.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("warm")


def test_all_other_rows_stay_and_keep_their_split(world: Path) -> None:
    before = sides()
    gone = ids_of(SECRET)
    erase(gone, why="asked to")
    run_data()
    assert sides() == {row_id: side for row_id, side in before.items() if row_id not in gone}


def test_rows_that_followed_an_erased_row_keep_its_split(world: Path) -> None:
    rows = read_dataset()
    leaders = set(rows["group"].to_pylist()) - {""}
    leader = next(each for each in ids_of("old archive building") if each in leaders)
    before = sides()
    assert before[leader] == "test"
    erase([leader], why="asked to")
    run_data()
    after = sides()
    followers = [row["row_id"] for row in rows.to_pylist() if row["group"] == leader]
    assert followers
    assert {each: after[each] for each in followers} == {each: before[each] for each in followers}


def test_the_batch_keeps_its_name_and_the_source_is_not_collected_again(world: Path) -> None:
    before = [(batch.batch, batch.rows) for batch in read_manifest()]
    erase(ids_of(SECRET), why="asked to")
    shutil.rmtree(".strop", ignore_errors=True)  # so that every file is read again
    run_data()
    assert [(batch.batch, batch.rows) for batch in read_manifest()] == before


def test_erased_rows_do_not_count_toward_the_bound_on_refused_rows(world: Path) -> None:
    write_params(world, params("base", SOURCES, validate={"max_refused_share": 0.05}))
    run_data()
    assert all(batch["state"] == "accepted" for batch in read_json(paths.VALIDATE_REPORT)["batches"])
    erase(select_rows([], ["family=qa"])[:20], why="asked to")
    run_data()
    report = read_json(paths.VALIDATE_REPORT)
    assert all(batch["state"] == "accepted" for batch in report["batches"])
    lines = [row for p in (paths.QUARANTINE / "validate").glob("*.parquet") for row in pq.read_table(p).to_pylist()]
    assert sum(row["reason"] == "erased" for row in lines) == 20
    assert report["rows"] == report["accepted"] + len(lines)
