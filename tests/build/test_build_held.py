"""What the project holds is read a piece at a time, and parents a few at a time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_part

from tasks.build import parent_rows as held_module
from tasks.build.parent_rows import choose_parents, read_held
from tasks.build.row_collector import prompt_key
from tasks.dataset import read as dataset_module
from tasks.dataset.read import read_dataset, read_pieces
from tasks.errors import DataError
from tasks.records.row import CHANGE_SCHEMA, CURATED_SCHEMA, NO_TEXT, row_id_of
from tasks.runtime.files import write_parquet

SIDES = ("train", "train", "train", "valid", "test")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def hold(batch: int, count: int, row_group: int = 7) -> None:
    """A batch in row groups of a few; every third row's text is another than it came, every ninth was made."""
    rows, kept = [], []
    for place in range(count):
        row = {
            **NO_TEXT,
            "family": "qa" if place % 4 else "topic",
            "instruction": f"Ask {batch} {place}",
            "output": "x",
        }
        row |= {"batch": f"b{batch}", "source": "toy", "file": "f", "line": 1, "language": "en", "index": place}
        row |= {"synthetic": "" if place % 9 else "made", "use": "train" if place % 11 else "golden"}
        row["row_id"] = row_id_of(row)
        rows.append(row)
        if place % 5:
            masked = {"instruction": f"Ask {batch} <masked> {place}"} if not place % 3 else {}
            side = SIDES[place % 5] if row["use"] == "train" else "test"
            kept.append({"index": place, "row_id": row["row_id"], "split": side, "group": "", **masked})
    write_part(rows, f"{batch:06d}-b{batch}.parquet")
    raw = Path("data/raw/toy") / f"b{batch}.parquet"
    pq.write_table(pq.read_table(raw), raw, row_group_size=row_group)
    write_parquet(Path(f"data/curated/{batch:06d}-b{batch}.parquet"), pa.Table.from_pylist(kept, CURATED_SCHEMA))


def test_what_is_held_is_what_the_whole_dataset_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_module, "ROWS_AT_ONCE", 5)
    hold(1, 60)
    hold(2, 45)
    gone = pq.read_table("data/curated/000001-b1.parquet").to_pylist()[0]
    change = {"row_id": gone["row_id"], "batch": "b1", "index": gone["index"], "by": "x"}
    write_parquet(Path("data/curated/000002-b2.changes.parquet"), pa.Table.from_pylist([change], CHANGE_SCHEMA))
    dataset = read_dataset().to_pylist()
    held = read_held({"qa"})
    trained = [row for row in dataset if (row["split"], row["use"]) == ("train", "train")]
    assert held.tested_on == {prompt_key(row) for row in dataset if row not in trained}
    expected = [row for row in trained if row["family"] == "qa" and not row["synthetic"]]

    def rank(row: dict[str, Any]) -> tuple[float, str]:
        return random.Random(f"3:{row['row_id']}").random(), row["row_id"]

    parents = choose_parents(held, "qa", seed=3)
    assert list(parents) == sorted(expected, key=rank)
    assert len(parents) == len(expected) > 20
    assert any("<masked>" in row["instruction"] for row in parents)
    assert not len(choose_parents(held, "topic", seed=3)), "nobody asked for them"


@pytest.mark.parametrize("at_once", [1, 3, 5, 1000])
def test_the_dataset_is_the_same_a_piece_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of raw batches (7 rows) and the portions that parts are read in end at other places."""
    hold(1, 100)
    hold(2, 100)
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


def test_a_batch_that_is_shorter_than_its_part_says_is_told() -> None:
    hold(1, 30)
    raw = Path("data/raw/toy/b1.parquet")
    pq.write_table(pq.read_table(raw).slice(0, 20), raw, row_group_size=7)
    with pytest.raises(DataError, match=r"has 20 records, but data/curated refers to later ones"):
        list(read_pieces())


def test_a_batch_that_has_no_rows_in_the_dataset_need_not_be_there() -> None:
    hold(1, 30)
    hold(2, 4, row_group=2)
    part = Path("data/curated/000002-b2.parquet")
    write_parquet(part, pq.read_table(part).slice(0, 0))
    Path("data/raw/toy/b2.parquet").unlink()
    assert pa.concat_tables(read_pieces()).equals(read_dataset())


def test_no_more_than_a_row_group_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    hold(1, 300)
    monkeypatch.setattr("tasks.dataset.read.read_dataset", lambda *_: pytest.fail("reads all of it"))
    pieces: list[int] = []
    pieces_of = dataset_module.pieces_of

    def counted(*arguments: Any) -> Any:
        for piece in pieces_of(*arguments):
            pieces.append(piece.num_rows)
            yield piece

    monkeypatch.setattr(dataset_module, "pieces_of", counted)
    held = read_held({"qa"})
    assert max(pieces) <= 7
    assert held.parents["qa"].itemsize == 60
    before = len(pieces)
    next(iter(choose_parents(held, "qa", seed=1)))
    assert sum(pieces[before:]) <= held_module.ROWS_AT_ONCE


def test_a_batch_that_is_not_here_is_told() -> None:
    hold(1, 20)
    Path("data/raw/toy/b1.parquet").unlink()
    with pytest.raises(DataError, match="is in the manifest, but not on the disk"):
        read_held({"qa"})
