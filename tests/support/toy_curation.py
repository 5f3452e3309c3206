"""Batches of sentences, curated."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from support.project import params, write_params
from support.toy_rows import write_part
from tasks import paths
from tasks.config import load_config
from tasks.curate.dedup.candidates import Candidates
from tasks.curate.dedup.shared_text import share_text
from tasks.curate.raw_rows import texts_of
from tasks.curate.sides.split import split_of
from tasks.curate.stage import run
from tasks.dataset.read import read_dataset
from tasks.records.row import NO_TEXT, row_id_of
from tasks.records.segmentation import normalise
from tasks.runtime.files import read_json

ENGLISH = "the river stone light window paper garden market silver morning travel music number letter yellow simple"
WORDS = ENGLISH.split()
CHINESE = "春天来了山河大地花开鸟语城市里面人们工作学习生活快乐朋友老师学生书本电脑音乐"


def sentence(draw: random.Random, words: int = 40, language: str = "en") -> str:
    if language == "zh":
        return "".join(draw.choices(CHINESE, k=words)) + str(draw.random())
    return " ".join([*(f"{w}{draw.randrange(200)}" for w in draw.choices(WORDS, k=words)), str(draw.random())])


def make(text: str, answer: str = "yes", batch: str = "b1", index: int = 0, **more: Any) -> dict[str, Any]:
    row = {**NO_TEXT, "family": "qa", "language": "en", "input": text, "output": answer, "use": "train", **more}
    origin = {"batch": batch, "index": index, "source": batch, "file": "f.jsonl", "line": index + 1}
    return {**row, **origin, "row_id": row_id_of(row)}


def batch_of(number: int, texts: list[tuple[str, str]], **more: Any) -> list[dict[str, Any]]:
    rows = [make(text, answer, f"b{number}", index, **more) for index, (text, answer) in enumerate(texts)]
    write_part(rows, f"{number:06d}-b{number}.parquet")
    return rows


def curate(root: Path, **sections: Any) -> dict[str, Any]:
    write_params(root, params("base", [], curate=sections))
    run(load_config())
    report: dict[str, Any] = read_json(paths.CURATE_REPORT)
    return report


def dropped(batch: int) -> list[tuple[str, str, str]]:
    path = paths.QUARANTINE / "curate" / f"{batch:06d}-b{batch}.parquet"
    return [(r["row_id"], r["reason"], r["value"]) for r in pq.read_table(path).to_pylist()] if path.exists() else []


def splits() -> dict[str, str]:
    dataset = read_dataset()
    return dict(zip(dataset["row_id"].to_pylist(), dataset["split"].to_pylist(), strict=True))


def splits_of(rows: list[dict[str, Any]]) -> list[str]:
    known = splits()
    return [known[row["row_id"]] for row in rows]


def split_of_text(text: str) -> str:
    return split_of(normalise(text), "strop", 0.1, 0.2)


def texts_in(split: str, count: int, seed: int = 0, language: str = "en") -> list[str]:
    draw = random.Random(f"{split}{seed}")
    result: list[str] = []
    while len(result) < count:
        text = sentence(draw, language=language)
        if split_of_text(text) == split:
            result.append(text)
    return result


def some_rows(seed: int = 9) -> list[tuple[str, str]]:
    """Rows on every side, so that a dataset is never without one."""
    return [(text, "yes") for split in ("train", "valid", "test") for text in texts_in(split, 3, seed)]


def check_no_pair_is_in_two_splits() -> None:
    dataset = [row for row in read_dataset().to_pylist() if row["split"] != "valid"]
    texts = [texts_of(row) for row in dataset]
    train, test = (
        np.array([n for n, row in enumerate(dataset) if row["split"] == split]) for split in ("train", "test")
    )
    pairs = np.sort(np.stack([np.repeat(train, len(test)), np.tile(test, len(train))], 1), axis=1)
    nowhere = np.zeros(len(pairs), np.bool_)
    shared = share_text(Candidates(pairs, nowhere), nowhere, np.arange(len(dataset)), texts)
    assert not shared.any(), [dataset[n]["input"] for n in pairs[shared][0]]
