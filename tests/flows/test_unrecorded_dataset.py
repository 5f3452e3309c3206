"""A stage that was run by hand leaves a dataset that is not in dvc.lock: `status` and `data versions` report both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import toyworld

from tasks.vcs import dvc_outputs, dvc_pipeline
from tasks.vcs.dvc_repo import with_repo

pytestmark = pytest.mark.usefixtures("warm")

Strop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def curate_by_hand() -> None:
    """As `python -m tasks curate` after a new batch: another dataset."""
    part = next(Path("data/curated").glob("*.parquet"))
    shutil.copyfile(part, part.with_name("0123456789abcdef.parquet"))


def recorded_by_dvc() -> str | None:
    """The hash that dvc.lock has after `dvc commit curate`."""
    with_repo(lambda repo: repo.commit("curate", force=True), "dvc commit")
    return dvc_outputs.dataset_version()


def test_a_dataset_made_by_hand_is_now_and_dvc_locks_is_named_beside_it(world: Path, strop: Strop) -> None:
    recorded = dvc_outputs.dataset_version()
    assert recorded is not None
    before = json.loads(strop("data", "versions", "--json")[1])
    assert (before["now"], before["recorded"]) == (recorded, recorded)
    assert f"dataset {recorded[:8]}" in strop("status")[1]
    assert json.loads(strop("status", "--json")[1])["summary"]["unrecorded"] is None
    assert "not in dvc.lock" not in strop("data", "versions")[1]

    curate_by_hand()
    after = json.loads(strop("data", "versions", "--json")[1])
    assert after["recorded"] == recorded
    assert after["now"] != recorded
    assert after["versions"][-1]["dataset"] == recorded
    out = " ".join(strop("data", "versions")[1].split())
    assert f"The dataset in data/curated is not in dvc.lock, which has {recorded}. Record it: strop run" in out
    code, out, err = strop("status")
    assert code == 0, err
    assert f"dataset {after['now'][:8]} in data/curated (dvc.lock: {recorded[:8]})" in out
    assert json.loads(strop("status", "--json")[1])["summary"]["unrecorded"] == after["now"]
    assert recorded_by_dvc() == after["now"], "as DVC itself names it"


def test_before_dvc_recorded_a_dataset_status_names_the_one_in_the_folder(world: Path, strop: Strop) -> None:
    made = dvc_outputs.dataset_version()
    assert made is not None
    Path("dvc.lock").unlink()
    code, out, err = strop("status")
    assert code == 0, err
    assert f"dataset {made[:8]} in data/curated (none in dvc.lock)" in out
    assert "no dataset yet" not in out
    shutil.rmtree("data/curated")
    assert "no dataset yet" in strop("status")[1]


def test_a_folder_that_did_not_change_is_not_read_again(
    world: Path, strop: Strop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert strop("status")[0] == 0  # which remembers that everything is up to date
    monkeypatch.setattr(dvc_pipeline, "is_unchanged", lambda: True)
    monkeypatch.setattr(dvc_pipeline, "with_repo", None)
    assert dvc_pipeline.unrecorded_dataset() is None
