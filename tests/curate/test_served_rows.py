"""Rows of served answers: near a held-out row they never train nor become its target; unrelated ones are split as any other."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.toy_curation import batch_of, curate, dropped, sentence

from tasks import paths
from tasks.curate.sides.split import split_of
from tasks.dataset.read import read_dataset
from tasks.records.segmentation import normalise

SERVED = '{"response":"resp_1"}'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def splits() -> dict[str, str]:
    rows = read_dataset()
    return dict(zip(rows["input"].to_pylist(), rows["split"].to_pylist(), strict=True))


def texts_in(split: str, draw: random.Random, count: int, language: str) -> list[str]:
    chosen: list[str] = []
    while len(chosen) < count:
        text = sentence(draw, language=language)
        if split_of(normalise(text), "strop", 0.1, 0.2) == split:
            chosen.append(text)
    return chosen


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_served_row_near_a_held_out_row_is_dropped_and_others_are_split(tmp_path: Path, language: str) -> None:
    draw = random.Random(7)
    test, valid, train = (texts_in(split, draw, 3, language) for split in ("test", "valid", "train"))
    golden, fresh = sentence(draw, language=language), texts_in("test", draw, 1, language)[0]
    batch_of(1, [(text, "right") for text in (*test, *valid, *train)], language=language)
    batch_of(2, [(golden, "right")], language=language, use="golden")
    near = [f"{text}!" for text in (test[0], valid[0], train[0], golden)]
    rows = batch_of(3, [(text, "poison") for text in (test[1], *near, fresh)], language=language, served=SERVED)
    curate(tmp_path)
    assert paths.CURATED.exists()
    reasons = {row_id: (reason, value) for row_id, reason, value in dropped(3)}
    by_input = {row["input"]: row["row_id"] for row in rows}
    for text in (test[1], near[0], near[1], near[3]):
        assert reasons[by_input[text]][0] == "contaminated", text
    assert splits()[near[2]] == "train"
    assert splits()[fresh] == "test"
    batch_of(4, [(f"{test[2]}!", "another")], language=language)  # a row of any other source follows
    curate(tmp_path)
    assert splits()[f"{test[2]}!"] == "test"
