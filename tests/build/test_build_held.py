"""The dataset is read in pieces, and parents a few at a time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.toy_rows import write_part

from tasks.build import parent_rows
from tasks.build.parent_rows import choose_parents, read_dataset_rows
from tasks.build.row_collector import prompt_key
from tasks.dataset import read as dataset_module
from tasks.dataset.read import read_dataset, read_pieces
from tasks.errors import DataError
from tasks.records.row import CHANGE_SCHEMA, CURATED_SCHEMA, NO_TEXT, row_id_of
from tasks.runtime.files import write_parquet

SPLITS = ("train", "train", "train", "valid", "test")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_batch(batch: int, count: int, row_group: int = 7) -> None:
    """A batch in small row groups; every third row has a masked text, every ninth is generated."""
    rows, kept = [], []
    for index in range(count):
        row = {
            **NO_TEXT,
            "family": "qa" if index % 4 else "topic",
            "instruction": f"Ask {batch} {index}",
            "output": "x",
        }
        row |= {"batch": f"b{batch}", "source": "toy", "file": "f", "line": 1, "language": "en", "index": index}
        row |= {"synthetic": "" if index % 9 else "made", "use": "train" if index % 11 else "golden"}
        row["row_id"] = row_id_of(row)
        rows.append(row)
        if index % 5:
            masked = {"instruction": f"Ask {batch} <masked> {index}"} if not index % 3 else {}
            split = SPLITS[index % 5] if row["use"] == "train" else "test"
            kept.append({"index": index, "row_id": row["row_id"], "split": split, "group": "", **masked})
    write_part(rows, f"{batch:06d}-b{batch}.parquet")
    raw = Path("data/raw/toy") / f"b{batch}.parquet"
    pq.write_table(pq.read_table(raw), raw, row_group_size=row_group)
    write_parquet(Path(f"data/curated/{batch:06d}-b{batch}.parquet"), pa.Table.from_pylist(kept, CURATED_SCHEMA))


def test_the_rows_are_those_of_the_whole_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent_rows, "ROWS_AT_ONCE", 5)
    write_batch(1, 60)
    write_batch(2, 45)
    gone = pq.read_table("data/curated/000001-b1.parquet").to_pylist()[0]
    change = {"row_id": gone["row_id"], "batch": "b1", "index": gone["index"], "by": "x"}
    write_parquet(Path("data/curated/000002-b2.changes.parquet"), pa.Table.from_pylist([change], CHANGE_SCHEMA))
    dataset = read_dataset().to_pylist()
    rows_of_dataset = read_dataset_rows({"qa"})
    trained = [row for row in dataset if (row["split"], row["use"]) == ("train", "train")]
    assert rows_of_dataset.held_out == {prompt_key(row) for row in dataset if row not in trained}
    expected = [row for row in trained if row["family"] == "qa" and not row["synthetic"]]

    def rank(row: dict[str, Any]) -> tuple[float, str]:
        return random.Random(f"3:{row['row_id']}").random(), row["row_id"]

    parents = choose_parents(rows_of_dataset, "qa", seed=3)
    assert list(parents) == sorted(expected, key=rank)
    assert len(parents) == len(expected) > 20
    assert any("<masked>" in row["instruction"] for row in parents)
    assert not len(choose_parents(rows_of_dataset, "topic", seed=3)), "not requested"


@pytest.mark.parametrize("at_once", [1, 3, 5, 1000])
def test_the_dataset_read_in_pieces_is_the_same(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of raw batches (7 rows) and portions of parts have different ends."""
    write_batch(1, 100)
    write_batch(2, 100)
    changes = [
        {"row_id": f"{n:032x}", "batch": f"b{b}", "index": n, "by": "0" * 32} for b in (1, 2) for n in (0, 6, 7, 50, 99)
    ]
    write_parquet(Path("data/curated/000002-b2.changes.parquet"), pa.Table.from_pylist(changes, CHANGE_SCHEMA))
    monkeypatch.setattr(dataset_module, "ROWS_AT_ONCE", at_once)
    pieces = list(read_pieces())
    assert max(piece.num_rows for piece in pieces) <= min(at_once, 7)
    rows = pa.concat_tables(pieces)
    assert rows.equals(read_dataset())
    assert {0, 6, 7, 50, 99}.isdisjoint(rows["index"].to_pylist())
    assert rows.num_rows > 100


def test_a_batch_that_is_shorter_than_its_part_is_reported() -> None:
    write_batch(1, 30)
    raw = Path("data/raw/toy/b1.parquet")
    pq.write_table(pq.read_table(raw).slice(0, 20), raw, row_group_size=7)
    with pytest.raises(DataError, match=r"has 20 records, but data/curated refers to later ones"):
        list(read_pieces())


def test_a_batch_without_rows_in_the_dataset_may_be_missing() -> None:
    write_batch(1, 30)
    write_batch(2, 4, row_group=2)
    part = Path("data/curated/000002-b2.parquet")
    write_parquet(part, pq.read_table(part).slice(0, 0))
    Path("data/raw/toy/b2.parquet").unlink()
    assert pa.concat_tables(read_pieces()).equals(read_dataset())


def test_no_more_than_a_row_group_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    write_batch(1, 300)
    monkeypatch.setattr("tasks.dataset.read.read_dataset", lambda *_: pytest.fail("reads all of it"))
    pieces: list[int] = []
    pieces_of = dataset_module.pieces_of

    def counted(*arguments: Any) -> Any:
        for piece in pieces_of(*arguments):
            pieces.append(piece.num_rows)
            yield piece

    monkeypatch.setattr(dataset_module, "pieces_of", counted)
    rows_of_dataset = read_dataset_rows({"qa"})
    assert max(pieces) <= 7
    assert rows_of_dataset.parents["qa"].itemsize == 60
    before = len(pieces)
    next(iter(choose_parents(rows_of_dataset, "qa", seed=1)))
    assert sum(pieces[before:]) <= parent_rows.ROWS_AT_ONCE


def test_a_missing_batch_is_reported() -> None:
    write_batch(1, 20)
    Path("data/raw/toy/b1.parquet").unlink()
    with pytest.raises(DataError, match="is in the manifest, but not on the disk"):
        read_dataset_rows({"qa"})
