"""Hugging Face datasets: saved folders are read split by split; without a hub, a hub id is an error in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.ingesting import ingest, records, settings
from support.toy_rows import topic_records

from tasks.ingest.changes.scan import anything_new

SAVED = {"name": "saved", "kind": "hub", "path": "saved", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dataset(count: int, start: int = 0) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_list([*topic_records(count, start=start)])


def test_a_saved_dataset_is_read_whole_and_once() -> None:
    dataset(2500).shuffle(seed=0).save_to_disk("saved")
    assert ingest(SAVED).sources[0].new_rows == 2500
    assert sorted(each["text"] for each in records("saved")) == sorted(each["text"] for each in topic_records(2500))
    assert not anything_new(settings(SAVED))
    dataset(2503).save_to_disk("other")
    os.rename("saved", "old")
    os.rename("other", "saved")
    assert anything_new(settings(SAVED))
    assert ingest(SAVED).sources[0].new_rows == 3


def test_splits_are_read_one_after_another_or_one_alone() -> None:
    import datasets

    datasets.DatasetDict({"train": dataset(3), "validation": dataset(2, start=3)}).save_to_disk("saved")
    assert ingest(SAVED | {"split": "validation"}).sources[0].new_rows == 2
    assert ingest(SAVED).sources[0].new_rows == 3
    (error,) = ingest(SAVED | {"split": "tset"}).errors
    assert "has no split `tset`; it has train, validation" in str(error)


def test_a_folder_without_a_dataset_is_an_error() -> None:
    Path("saved").mkdir()
    (error,) = ingest(SAVED).errors
    assert "is not a dataset that save_to_disk wrote. Save it with `dataset.save_to_disk(folder)`" in str(error)


def test_a_hub_id_needs_a_revision_and_a_network() -> None:
    (error,) = ingest(SAVED | {"path": "someone/news"}).errors
    assert "and a hub id needs a revision. Pin one" in str(error)
    (error,) = ingest(SAVED | {"path": "someone/news", "revision": "abc123"}).errors
    assert "path someone/news: cannot be read (" in str(error)
    assert "Check the network and the id, or save it once" in str(error)
    assert "\n" not in str(error)


def test_a_hub_id_is_loaded_once_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    requests = []

    def load(path: str, name: str | None, revision: str, split: str | None) -> Any:
        requests.append((path, name, revision, split))
        return datasets.DatasetDict({"train": dataset(2), "test": dataset(1, start=2)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = SAVED | {"path": "someone/news", "revision": "abc123", "subset": "en"}
    assert ingest(source).sources[0].new_rows == 3
    assert not anything_new(settings(source))
    assert not ingest(source).new
    assert requests == [("someone/news", "en", "abc123", None)]
    assert anything_new(settings(source | {"revision": "def456"}))
