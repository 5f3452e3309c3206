"""Every form of rendered rows, and what a teacher said of them, is found by an erasure: it holds their text, or its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks import paths
from tasks.erase.plan import Plan
from tasks.erase.rewriting import holds
from tasks.erase.stage import _clear_caches
from tasks.files import write_parquet

PLAN = Plan(["r1"], ["d1"], ["b1"], [], [], "ann", "2026-11-22T10:00:00+00:00", "asked for")


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt_ids": [[1, 2]], "chosen_ids": [[3]], "rejected_ids": [[4]]},
        {"prompt_ids": [[1, 2]], "answer_ids": [[3]], "desirable": [True]},
        {"prompt_ids": [[1, 2]], "target": ["Ann"], "kind": ["qa"]},
    ],
    ids=["pairs", "judged", "prompts"],
)
def test_rendered_rows_of_a_form_are_found_by_their_ids(columns: dict[str, Any], tmp_path: Path) -> None:
    for row_id, is_found in (("r1", True), ("r2", False)):
        write_parquet(tmp_path / f"{row_id}.parquet", pa.table({"row_id": [row_id], **columns}))
        assert holds(tmp_path / f"{row_id}.parquet", PLAN) is is_found


def test_what_a_teacher_said_and_what_a_training_left_go(project: Path) -> None:
    for folder in (paths.SOFT_TARGETS / "teacher", paths.CHECKPOINTS / "key/training-1/soft-targets"):
        folder.mkdir(parents=True)
        (folder / "targets").write_bytes(b"likeliest tokens")
    _clear_caches(PLAN)
    assert not paths.SOFT_TARGETS.exists()
    assert not paths.CHECKPOINTS.exists()
