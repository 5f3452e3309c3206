"""Room `render`: rows are processed in portions, whatever their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import params, write_params
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.base.pin import pin_base
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.dataset import read as dataset
from tasks.dataset.rendered import TEST
from tasks.errors import ConfigError
from tasks.render import row_store, stage
from tasks.render.packing import arrays
from tasks.runtime.files import file_digest, read_batches
from tasks.state.manifest import read_manifest, write_manifest

BALANCE = [{"family": "topic", "weight": 2.5}, {"family": "qa", "max_rows": 12}]


@pytest.fixture
def config(project: Path, tiny_gpt2: Path) -> PipelineConfig:
    write_params(project, params(tiny_gpt2, [], render={"balance": BALANCE}))
    pin_base(load_config().base)
    return load_config()


@pytest.mark.parametrize("at_once", [1, 7])
def test_what_is_rendered_does_not_depend_on_how_many_rows_are_held(
    at_once: int, config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_part(toy_rows())
    curate(config)
    stage.run(config)
    before, tests = _arrays(), pq.read_table(TEST)
    _hold_few(monkeypatch, at_once)
    stage.run(config)
    assert _arrays() == before
    assert pq.read_table(TEST).equals(tests)


def test_the_text_is_never_held_whole(config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    many = toy_rows(400, 20)
    for number, row in enumerate(many):
        row["input"] = f"Text {number}. " * 400
    write_part(many)
    curate(config.model_copy(update={"curate": config.curate.model_copy(update={"near_duplicates": "off"})}))
    raw = next(Path("data/raw").rglob("*.parquet"))
    pq.write_table(pq.read_table(raw), raw, row_group_size=16)
    write_manifest([replace(batch, sha256=file_digest(batch.path)) for batch in read_manifest()])
    _hold_few(monkeypatch, 16)
    held: list[int] = []
    portions = row_store.Rows.portions

    def watched(self: row_store.Rows) -> Iterator[pa.Table]:
        for portion in portions(self):
            held.append(pa.total_allocated_bytes())
            yield portion

    monkeypatch.setattr(row_store.Rows, "portions", watched)
    start = pa.total_allocated_bytes()
    stage.run(config)
    text = sum(len(row["input"]) for row in many)
    assert len(held) > 20
    assert max(held) - start < text / 2


def test_an_error_leaves_earlier_rendered_rows(config: PipelineConfig) -> None:
    write_part(toy_rows())
    curate(config)
    stage.run(config)
    before = _arrays()
    Path("data/templates/topic.yaml").unlink()
    with pytest.raises(ConfigError, match="no templates for the family topic"):
        stage.run(config)
    assert _arrays() == before
    assert list(paths.CACHE.glob("rendering-*")) == []


def test_files_of_a_killed_run_are_removed_by_the_next(config: PipelineConfig) -> None:
    write_part(toy_rows())
    curate(config)
    left = paths.CACHE / "rendering-killed"
    left.mkdir(parents=True)
    (left / "train.parquet").write_text("text of rows")
    stage.run(config)
    assert list(paths.CACHE.glob("rendering-*")) == []


def test_long_rows_are_held_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "PORTION_BYTES", 10_000)
    subjects = [dict.fromkeys(row_store.COLUMNS, "") | {"row_id": str(n), "output": f"{n} " * 500} for n in range(40)]
    with row_store.RowWriter(tmp_path / "rows.parquet") as gathering:
        gathering.add(pa.Table.from_pylist(subjects))
    times = np.array([3] * 10 + [0] * 10 + [1] * 20, np.int32)
    portions = list(row_store.Rows(tmp_path / "rows.parquet", 40, times).portions())
    assert max(len(portion) for portion in portions) <= 10
    expected = [str(n) for n, count in enumerate(times) for _ in range(count)]
    assert [row_id for portion in portions for row_id in portion["row_id"].to_pylist()] == expected


@given(st.lists(st.integers(1, 400), max_size=100), st.randoms(use_true_random=False))
def test_waiting_examples_are_found_wherever_they_lie(lengths: list[int], random: Random) -> None:
    chosen = random.sample(range(len(lengths)), len(lengths))
    starts, result = arrays.Starts(np.array(lengths, np.uint16)).of(np.array(chosen, np.int32))
    assert starts.tolist() == [sum(lengths[:example]) for example in chosen]
    assert result.tolist() == [lengths[example] for example in chosen]


def test_row_groups_that_were_read_are_let_go_of(tmp_path: Path) -> None:
    group = pa.table({"text": pa.array(np.random.default_rng(0).bytes(1000).hex() for _ in range(2000))})
    with pq.ParquetWriter(tmp_path / "rows.parquet", group.schema, compression="none", use_dictionary=False) as writer:
        for _ in range(12):
            writer.write_table(group)
    before, most, count = pa.total_allocated_bytes(), 0, 0
    with pq.ParquetFile(tmp_path / "rows.parquet") as file:
        for read in read_batches(file, 500, use_threads=False):
            most, count = max(most, pa.total_allocated_bytes() - before), count + read.num_rows
    assert count == 24_000
    assert most < 3 * group.nbytes


def _arrays() -> dict[str, str]:
    return {str(path): file_digest(path) for path in sorted(paths.RENDERED.rglob("*.npy"))}


def _hold_few(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(dataset, "ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(row_store, "PORTION_ROWS", at_once)
    monkeypatch.setattr(row_store, "_WRITTEN_AT_ONCE_BYTES", 2**17)
    monkeypatch.setattr(arrays, "EXAMPLES_AT_ONCE", at_once)
