"""Many small batches in one run give the bytes of as many runs, at a cost that is linear in the rows."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy_curation import batch_of, check_no_pair_is_in_two_splits, curate, sentence, some_rows

from tasks import paths
from tasks.curate.dedup import index as index_module
from tasks.errors import DataError
from tasks.runtime.files import file_digest
from tasks.state.manifest import read_manifest


def digests() -> dict[str, str]:
    return {path.name: file_digest(path) for path in paths.CURATED.glob("*")}


@given(st.integers(0, 10_000))
@settings(max_examples=3, deadline=None)
def test_many_batches_at_once_give_the_bytes_of_some_at_a_time(tmp_path_factory: Any, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        patch.setattr(index_module, "SHORT_RUN", 16)
        draw = random.Random(seed)
        pool = [sentence(draw, draw.choice([3, 20, 40]), draw.choice(["en", "zh"])) for _ in range(30)]
        batch_of(1, some_rows(seed))
        for number in range(2, 27):
            texts = [
                draw.choice(pool) + draw.choice(["", "", " indeed", " " + draw.choice(pool)])
                for _ in range(draw.randrange(1, 8))
            ]
            use = draw.choices(["train", "golden", "benchmark"], [8, 1, 1])[0]
            batch_of(number, [(text, draw.choice(["yes", "no", text[:50]])) for text in texts], use=use)
            if draw.random() < 0.3:  # what is known is then read again, and gone through instead of sorted
                patch.setattr(index_module, "SORTED_AT_ONCE", draw.choice([0, 20, 1 << 16]))
                curate(Path.cwd())
        curate(Path.cwd())
        some_at_a_time = digests()
        check_no_pair_is_in_two_splits()
        shutil.rmtree(".strop")
        curate(Path.cwd())
        assert digests() == some_at_a_time


def test_what_a_batch_looks_up_does_not_grow_with_the_batches_before_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    ranges = index_module.Index._ranges

    def counted(self: Any, hashes: Any) -> Any:
        for run, low, high in ranges(self, hashes):
            searched.append(int(np.sum(high - low)))
            yield run, low, high

    monkeypatch.setattr(index_module.Index, "_ranges", counted)
    draw = random.Random(3)
    batch_of(1, some_rows())
    for number in range(2, 80):
        batch_of(number, [(sentence(draw, 20), "yes") for _ in range(3)])
    curate(project)
    assert len(searched) < 12 * 79, "three indexes, a few runs each"
    assert sum(searched) < 79


def test_a_raw_batch_that_changed_after_validation_is_reported_with_its_file_and_a_fix(project: Path) -> None:
    batch_of(1, some_rows())
    (batch,) = read_manifest()
    content = bytearray(batch.path.read_bytes())
    content[len(content) // 2] ^= 1
    batch.path.write_bytes(bytes(content))
    with pytest.raises(DataError) as error:
        curate(project)
    assert str(error.value).startswith(
        f"{batch.path}: changed since it was collected. Restore it: dvc checkout --force data/raw.dvc"
    )


def test_an_earlier_batch_that_changed_is_reported_though_its_text_is_not_needed(project: Path) -> None:
    rows = some_rows()
    batch_of(1, rows)
    curate(project)
    (batch,) = read_manifest()
    content = bytearray(batch.path.read_bytes())
    content[len(content) // 2] ^= 1
    batch.path.write_bytes(bytes(content))
    batch_of(2, [("something else altogether", "yes")])
    with pytest.raises(DataError, match=f"{batch.path}: changed since it was collected"):
        curate(project)
