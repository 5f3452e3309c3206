"""Files that come to far more than they are are refused in one line, in little memory; honest files that pack well are read."""

from __future__ import annotations

import datetime
import time
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from tasks.errors import SourceError
from tasks.ingest.readers import columnar
from tasks.ingest.readers.arrow_messages import unpacked_bytes
from tasks.ingest.readers.arrow_rows import read_parquet
from tasks.ingest.readers.columnar import Bound, bytes_of, portions
from tasks.ingest.readers.compression import Content

MEGABYTE = "x" * 1_000_000


def written(path: Path, table: pa.Table, **named: Any) -> Path:
    pq.write_table(table, path, compression="zstd", store_schema=False, **named)
    return path


def repeated(value: str, times: int) -> pa.Array:
    """A value that stands there once, and is named many times."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


def read(path: Path, most: int | None = None) -> list[Any]:
    return [result.record for result in read_parquet(Content(path, most))]


def bomb_of_a_column(path: Path) -> Path:
    return written(path, pa.table({"text": repeated(MEGABYTE, 50_000)}))


def bomb_of_lists(path: Path) -> Path:
    return written(path, pa.table({"messages": [["y" * 200_000] * 400] * 3}))


def bomb_of_list_lengths(path: Path) -> Path:
    offsets = pa.array([0, 20_000_000], pa.int32())
    return written(path, pa.table({"n": pa.ListArray.from_arrays(offsets, pa.array(np.zeros(20_000_000, np.int8)))}))


def bomb_of_a_page(path: Path) -> Path:
    table = pa.table({"text": pa.array(["z" * 30_000_000] * 3)})
    return written(path, table, use_dictionary=False, data_page_size=2**30)


def bomb_of_prefixes(path: Path) -> Path:
    texts = [MEGABYTE + str(place) for place in range(100)]
    return written(path, pa.table({"text": texts}), use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})


def bomb_of_fixed_width(path: Path) -> Path:
    values = pa.array([b"w" * 1_000_000] * 100, pa.binary(1_000_000))
    return written(path, pa.table({"blob": values}))


BOMBS = [bomb_of_a_column, bomb_of_lists, bomb_of_list_lengths, bomb_of_a_page, bomb_of_prefixes, bomb_of_fixed_width]


@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_a_parquet_bomb_is_refused_in_one_line_that_names_file_row_group_and_bound(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "bomb.parquet")
    assert path.stat().st_size < 600_000
    before, peaks = pa.total_allocated_bytes(), [0]
    with pytest.raises(SourceError) as message:
        peaks += [pa.total_allocated_bytes() - before for _ in read_parquet(Content(path))]
    assert "\n" not in str(message.value)
    assert f"{path} row group 1" in str(message.value)
    assert "67,108,864 bytes" in str(message.value)
    assert "max_uncompressed_bytes" in str(message.value)
    assert max(peaks) < 200e6


def test_a_file_of_thousands_of_columns_is_refused_before_their_pages_are_looked_at(tmp_path: Path) -> None:
    wide = pa.table({f"column {number}": ["a"] for number in range(20_000)})
    path = written(tmp_path / "wide.parquet", wide)
    start = time.process_time()
    with pytest.raises(SourceError, match=r"wide\.parquet: has 20,000 columns; at most 4,096 are read"):
        read(path)
    assert time.process_time() - start < 2


def test_a_bomb_needs_no_memory_to_be_refused(tmp_path: Path) -> None:
    path = bomb_of_a_column(tmp_path / "bomb.parquet")
    tracemalloc.start()
    with pytest.raises(SourceError):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 150e6
    tracemalloc.stop()


def test_a_bomb_in_a_later_row_group_is_reported_with_its_row_group(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(tmp_path / "late.parquet", schema) as writer:
        writer.write_table(pa.table({"text": ["good"]}))
        writer.write_table(pa.table({"text": [MEGABYTE] * 90}))
    with pytest.raises(SourceError, match=r"late\.parquet row group 2: unpacks"):
        read(tmp_path / "late.parquet")


def test_a_million_rows_of_a_few_labels_are_read(tmp_path: Path) -> None:
    labels = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(1_000_000) % 3, pa.int32()),
        pa.array([f"a label of some length, number {n}" * 3 for n in range(3)]),
    )
    path = written(tmp_path / "labels.parquet", pa.table({"label": labels}))
    with pq.ParquetFile(path) as file:
        assert file.metadata.num_rows == 1_000_000
    content = Content(path)
    assert sum(batch.num_rows for batch in columnar.parquet_batches(content)) == 1_000_000


def test_the_setting_lets_a_larger_file_through(tmp_path: Path) -> None:
    path = written(tmp_path / "large.parquet", pa.table({"text": repeated(MEGABYTE, 70)}))
    with pytest.raises(SourceError):
        read(path)
    assert len(read(path, 100_000_000)) == 70


def test_rows_are_what_pyarrow_reads_whatever_their_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", None, "中文", ""],
            "binary": [b"a", b"\xff", None, b""],
            "numbers": [[1, 2], [], None, [3]],
            "turns": [[{"role": "user", "content": "x"}], [], None, [{"role": None, "content": "y"}]],
            "pairs": pa.array([[("k", "v")], [], None, [("a", None)]], pa.map_(pa.string(), pa.string())),
            "when": [datetime.date(2024, 1, 2), None, None, datetime.date(1999, 1, 1)],
            "sum": [Decimal("1.50"), None, Decimal("0.01"), None],
            "flag": [True, False, None, True],
            "fixed": pa.array([b"ab", b"cd", None, b"ef"], pa.binary(2)),
            "none": pa.nulls(4),
        }
    )
    path = tmp_path / "all.parquet"
    pq.write_table(table, path, row_group_size=3)
    from tasks.ingest.readers.arrow_rows import record_json

    assert read(path) == [record_json(row) for row in pq.read_table(path).to_pylist(maps_as_pydicts="strict")]


def test_the_size_of_an_array_counts_each_occurrence_of_a_value() -> None:
    hundred = "x" * 100
    assert bytes_of(pa.array([hundred] * 5)) == 500
    assert bytes_of(repeated(hundred, 5)) >= 500
    assert bytes_of(pa.array([[hundred], [hundred, hundred]])) >= 300
    assert bytes_of(pa.array([{"a": hundred}] * 3)) >= 300
    assert bytes_of(pa.array([hundred] * 5, pa.string_view())) == 500
    assert bytes_of(pa.array([[("k", hundred)]] * 2, pa.map_(pa.string(), pa.string()))) >= 202
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1_000_000], pa.int32()), pa.array([hundred]))
    assert bytes_of(runs) >= 100_000_000
    offsets, sizes = pa.array([0] * 1000, pa.int32()), pa.array([10] * 1000, pa.int32())
    views = pa.ListViewArray.from_arrays(offsets, sizes, pa.array([hundred] * 10))
    assert bytes_of(views) >= 1_000_000


def test_portions_are_no_larger_than_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "BYTES_AT_ONCE", 1_000)
    batch = pa.record_batch({"text": repeated("x" * 90, 100)})
    result = list(portions(batch, Bound(100, 100, None, "file")))
    assert sum(part.num_rows for part in result) == 100
    assert max(part.num_rows for part in result) <= 12


def test_the_uncompressed_size_of_an_arrow_stream_is_in_its_headers(tmp_path: Path) -> None:
    batch = pa.record_batch({"text": ["x" * 1_000_000] * 100})
    sizes = {}
    for codec in (None, "zstd", "lz4"):
        path = tmp_path / f"{codec}.arrow"
        with pa.ipc.new_stream(path, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
            writer.write_batch(batch)
        sizes[codec] = unpacked_bytes(path)
    assert sizes[None] == 0
    assert min(sizes["zstd"], sizes["lz4"]) >= 100_000_000


def test_a_saved_dataset_whose_shards_are_packed_bombs_is_refused(tmp_path: Path) -> None:
    import datasets

    from tasks.ingest.connectors.hub import HubDataset, read_split
    from tasks.ingest.settings import Source

    datasets.Dataset.from_dict({"text": ["x"]}).save_to_disk(tmp_path / "saved")
    (shard,) = (tmp_path / "saved").glob("*.arrow")
    with pa.ipc.open_stream(shard) as reader:
        schema = reader.schema
    with pa.ipc.new_stream(shard, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch([pa.array([MEGABYTE] * 80)], schema=schema))
    source = Source(name="saved", kind="hub", path=str(tmp_path / "saved"), shape="text", family="text")
    (name,) = HubDataset(source).list_items().items
    with pytest.raises(SourceError, match="unpacks to more than 67,108,864 bytes"):
        list(read_split(source, name))
