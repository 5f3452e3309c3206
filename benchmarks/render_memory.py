"""Peak memory of `render` for few and for many rows. Run: .venv/bin/python benchmarks/render_memory.py [--rows ROWS]

    --base MODEL    its tokenizer is used; default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)

Synthetic rows of about 30 tokens, each with words that no other row has, are written as one curated batch. Only the room `render`
is run and measured, in a process of its own. Printed: seconds and peak memory for 10,000 rows and for ROWS rows, and the
difference. Ten million rows take an hour and 15 GB of disk.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from measuring import BASE, quieten, require_base, run_measured, toy_tools

FEW = 10_000
TARGET_MB = 200
AT_ONCE = 2_000
WORDS = [
    "the",
    "a",
    "of",
    "market",
    "team",
    "minister",
    "film",
    "goal",
    "price",
    "phone",
    "城市",
    "天气",
    "rises",
    "wins",
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of render for few and for many rows.")
    parser.add_argument("--rows", type=int, default=10_000_000, help="the many rows (default: 10,000,000)")
    parser.add_argument("--base", default=BASE)
    options = parser.parse_args()
    quieten()
    require_base(options.base)
    peaks = {}
    for count in (FEW, options.rows):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "project"
            make_ready(root, count, options.base)
            seconds, peaks[count] = run_measured([sys.executable, "-m", "tasks", "render"], cwd=root)
            print(f"{count:12,} rows {seconds:8,.1f} s {peaks[count]:8,.0f} MB", flush=True)
    more = peaks[options.rows] - peaks[FEW]
    print(f"{more:+,.0f} MB for {options.rows:,} rows compared with {FEW:,}; target: at most {TARGET_MB}")


def make_ready(root: Path, count: int, base: str) -> None:
    """Makes a project with `count` curated rows, and nothing else."""
    tools = toy_tools()

    from tasks.base.convert import base_folder
    from tasks.base.pin import read_base
    from tasks.config import load_config
    from tasks.records.raw_batch import RAW_SCHEMA
    from tasks.records.row import CURATED_SCHEMA
    from tasks.runtime.files import ParquetStream, file_digest
    from tasks.state.manifest import Batch, write_manifest

    tools.set_up_project(root)
    tools.write_params(root, tools.params(base, [], render={"max_length_tokens": 1024, "pack_length_tokens": 1024}))
    with chdir(root):
        tools.begin_round(load_config())
        base_folder(read_base())
        batch = Batch(1, "made", "made", count, "")
        for path in (batch.path, Path("data/curated") / batch.part):
            path.parent.mkdir(parents=True)
        with (
            ParquetStream(batch.path, RAW_SCHEMA) as raw,
            ParquetStream(Path("data/curated") / batch.part, CURATED_SCHEMA) as part,
        ):
            for records, kept in synthetic_rows(count):
                raw.write(records)
                part.write(kept)
        write_manifest([replace(batch, sha256=file_digest(batch.path))])


def synthetic_rows(count: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yields portions of raw records, each with the decisions of `curate` on them."""
    from tasks.records.raw_batch import RAW_SCHEMA
    from tasks.records.row import CURATED_SCHEMA, NO_TEXT, row_id_of
    from tasks.runtime.files import canonical_json

    draw = random.Random(0)
    reading = {"shape": "row", "family": "instruction", "language": "en", "columns": "{}", "use": "train", "file": "f"}
    for first in range(0, count, AT_ONCE):
        records, kept = [], []
        for index in range(first, min(count, first + AT_ONCE)):
            words = " ".join(draw.choices(WORDS, k=draw.randint(4, 30)))
            text = {
                **NO_TEXT,
                "instruction": f"Say {index:x} and {draw.getrandbits(32):x}",
                "input": words,
                "output": f"It is {words[:20]}",
            }
            row_id = row_id_of({**text, "family": "instruction"})
            split = "test" if index % 1000 == 0 else "valid" if index % 1000 == 1 else "train"
            records.append({"digest": row_id, "record": canonical_json(text), "line": index + 1, **reading})
            kept.append({"index": index, "row_id": row_id, "split": split, "group": ""})
        yield pa.Table.from_pylist(records, RAW_SCHEMA), pa.Table.from_pylist(kept, CURATED_SCHEMA)


if __name__ == "__main__":
    main()
