"""Text that training and test rows share after the split. Run: .venv/bin/python benchmarks/shared_text.py [--every 4]

    --rows FOLDER   the folder with t0/t0.jsonl.gz (default: STROP_SHARED_DATA, or ../shared/data)
    --every N       every Nth row of the file
    --first N       only the first N rows of it
    --batches N     split into N files that are ingested in sequence; default: one
    --tokens N      length of a shared run of tokens; default: 30

The rows go through `ingest`, `validate` and `curate` with the default settings. Then code that is independent of `curate` counts
the training rows that share a run of N tokens with a test row. Runs that occur in more than one row in a hundred are not counted.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import subprocess
import sys
import tempfile
from array import array
from collections import Counter, defaultdict
from pathlib import Path

from measuring import data_folder, quieten, require_rows, toy_tools

ROWS = "t0/t0.jsonl.gz"
COMMON_SHARE = 0.01
ROOMS = ("ingest", "validate", "curate")


def main() -> None:
    quieten()
    options = parse()
    require_rows(options.rows, ROWS)
    with gzip.open(options.rows / ROWS, "rt", encoding="utf-8") as file:
        lines = list(itertools.islice(file, 0, options.first, options.every))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        toy_tools().set_up_project(root)
        os.chdir(root)
        curate(lines, options.batches)
        report(len(lines), options.tokens)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Text that training and test rows share.")
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=None)
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=30)
    return parser.parse_args()


def curate(lines: list[str], batches: int) -> None:
    """Makes a project with curated rows in the current folder."""
    tools = toy_tools()
    tools.make_tiny_gpt2(Path("base"))
    source = {"name": "t0", "path": "inbox/*.jsonl", "shape": "prompt_completion", "family": "instruction"}
    config = tools.params("base", [source])
    config["validate"]["max_refused_share"] = 1.0
    config["curate"] = {}
    tools.write_params(Path(), config)
    Path("inbox").mkdir(exist_ok=True)
    size = -(-len(lines) // batches)
    for number in range(batches):
        rows = lines[number * size : (number + 1) * size]
        Path(f"inbox/{number:03d}.jsonl").write_text("".join(rows), encoding="utf-8")
        for room in ROOMS:
            subprocess.run([sys.executable, "-m", "tasks", room], check=True, stdout=subprocess.DEVNULL)


def report(total: int, length: int) -> None:
    """Prints the kept rows, and the training rows that share a run of `length` tokens with a test row."""
    from tasks.dataset.read import read_dataset
    from tasks.records.segmentation import segment

    numbers: dict[str, int] = defaultdict(itertools.count().__next__)
    rows = read_dataset().select(["input", "output", "split", "group"]).to_pylist()
    tokens = [array("I", (numbers[token] for token in segment(f"{row['input']}\n{row['output']}"))) for row in rows]
    runs = [{hash(row[start : start + length].tobytes()) for start in range(len(row) - length + 1)} for row in tokens]
    counts = Counter(run for row_runs in runs for run in row_runs)
    is_rare = {run for run, count in counts.items() if count <= COMMON_SHARE * len(rows)}
    tested = {
        run for row, row_runs in zip(rows, runs, strict=True) if row["split"] == "test" for run in row_runs & is_rare
    }
    leaked = sum(
        row["split"] == "train" and not row_runs.isdisjoint(tested) for row, row_runs in zip(rows, runs, strict=True)
    )
    splits = Counter(row["split"] for row in rows)
    (largest,) = Counter(row["group"] for row in rows if row["group"]).most_common(1) or [("", 0)]
    print(f"{total:,} rows: {len(rows):,} kept ({len(rows) / total:.1%}), {dict(splits)}")
    print(f"largest group: {largest[1] / len(rows):.1%} of the rows")
    print(
        f"{leaked:,} training rows share {length} tokens with a test row "
        f"(runs in more than {COMMON_SHARE:.0%} of all rows are not counted)"
    )


if __name__ == "__main__":
    main()
