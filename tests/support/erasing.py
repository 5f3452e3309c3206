"""A project with texts to erase, and the files that still hold one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from support.dataworld import collect
from tasks import paths
from tasks.dataset.read import read_dataset
from tasks.lineage.select_rows import select_rows
from tasks.vcs import dvc_pipeline

SECRET = "王小明住在长安街九百号"
REFUSED = "Xiaoming's number is hidden in a row that was refused"
NEAR = "Please tell me in one short and plain sentence where the company keeps the keys of the old archive building, number {}"


def run_data() -> str:
    """Up to `render`, pushed; returns the commit."""
    commit = collect("validate", "curate", "render")
    dvc_pipeline.push()
    return commit


def ids_of(text: str) -> list[str]:
    result = select_rows([], [f"input~{text}"]) + select_rows([], [f"instruction~{text}"])
    return sorted({*result, *select_rows([], [f"output~{text}"])})


def files_with(text: str, *folders: Path) -> list[Path]:
    """Every file that holds the text: as bytes, in a column, or as tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("base")

    def texts(path: Path) -> bool:
        head = path.read_bytes()[:6]
        if head.startswith(b"PAR1"):
            return text in json.dumps(pq.ParquetFile(path).read().to_pylist(), ensure_ascii=False, default=repr)
        if head == b"\x93NUMPY":
            array = np.load(path)
            return array.dtype == np.int32 and text in tokenizer.decode(array.tolist())
        return text.encode() in path.read_bytes() or json.dumps(text).strip('"').encode() in path.read_bytes()

    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if not {".git", "inbox"} & set(path.parts) and texts(path)]


def sides() -> dict[str, str]:
    rows = read_dataset()
    return dict(zip(rows["row_id"].to_pylist(), rows["split"].to_pylist(), strict=True))


def quarantined(text: str) -> str:
    for path in (paths.QUARANTINE / "validate").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            if text in row["record"]:
                return str(row["row_id"])
    raise AssertionError
