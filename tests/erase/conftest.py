"""A project with two commits of data, pushed, and texts to erase."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.dataworld import SOURCES
from support.erasing import NEAR, REFUSED, SECRET, run_data
from support.once import once
from support.project import copy_project, params, set_up_project, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import qa_records, topic_records, write_jsonl
from support.toyworld import set_remote

from tasks.curate.settings import CurateSettings
from tasks.curate.sides.split import split_of
from tasks.records.segmentation import normalise


def _test_row_first() -> list[int]:
    """Numbers for NEAR: first one that is a test row by itself, then six that are training rows by themselves."""
    settings = CurateSettings()
    shares = settings.split_salt, settings.valid_share, settings.test_share
    by_itself = {n: split_of(normalise(NEAR.format(n)), *shares) for n in range(200)}
    test = next(n for n, split in by_itself.items() if split == "test")
    return [test, *[n for n, split in by_itself.items() if split == "train"][:6]]


@pytest.fixture(scope="module")
def template() -> Path:
    """Two commits with data, pushed; SECRET is in the input of one row and in the output of another."""
    return once("erase", _make_template)


def _make_template(folder: Path) -> None:
    root = folder / "project"
    with pytest.MonkeyPatch.context() as patch:
        set_up_project(root)
        patch.chdir(root)
        set_remote(root.parent / "store")
        make_tiny_gpt2(root / "base")
        write_jsonl(root / "inbox/topic.jsonl", topic_records(40))
        secret = [
            {"instruction": SECRET + "，他叫什么？", "input": "", "output": "王小明。"},
            {"instruction": "谁住在那里？", "input": "", "output": SECRET},
            {"instruction": REFUSED, "input": "", "output": ""},
        ]
        near = [{"instruction": NEAR.format(n), "input": "", "output": f"In drawer {n}."} for n in _test_row_first()]
        write_jsonl(root / "inbox/qa.jsonl", [*qa_records(40), *secret, *near])
        write_params(root, params("base", SOURCES, validate={"data_docs": True, "max_refused_share": 0.5}))
        run_data()
        write_jsonl(root / "inbox/qa-2.jsonl", qa_records(10, start=200))
        run_data()


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, with a copy of its remote, that the test works in."""
    copy_project(template, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world" / "project")
    set_remote(tmp_path / "world" / "store")
    return tmp_path / "world" / "project"
