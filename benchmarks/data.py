"""Time and memory of the data rooms, and the cost of one new batch. Run: .venv/bin/python benchmarks/data.py [ROWS]

    whole        ingest + validate + curate of ROWS rows (a million): seconds, peak memory of the process tree
    increment    one more batch of 1,000 rows: its time relative to the whole's, bytes stored relative to the batch's
    small        10,000 new batches of 10 rows in one run, then one more
    nothing new  10,000 known batches: seconds until the run reports that nothing is new
    near         near-duplicates of 100,000 rows, against datasketch's MinHashLSH at the same threshold; recall and precision

The rows are synthetic: words by Zipf's law, a tenth of them Chinese, 2 % duplicates, 2 % near-duplicates, 1 % with an e-mail
address. Each room runs in a process of its own, as in the pipeline. `near` needs datasketch (pip install datasketch); without
it, name the other parts: data.py whole small nothing
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_near import near
from data_rows import Writer
from measuring import REPOSITORY, quieten, require_library, run_measured

sys.path.insert(0, str(REPOSITORY))

PARAMS = """
base: {model: base}
ingest:
  sources:
    - {name: a, path: inbox/*.jsonl, shape: alpaca, family: qa}
validate: {max_refused_share: 0.5, data_docs: false}
curate: {}
render: {}
finetune: {}
evaluate: {}
gate: {}
register: {model_name: bench}
promote: {}
"""
BATCHES = 10_000


def in_process(code: str, root: Path) -> tuple[float, float]:
    """Runs Python in the project; returns seconds, and the peak memory of the process and its children together, in MB."""
    script = root / ".bench.py"  # a file: worker processes import it again
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    return run_measured([sys.executable, str(script)], root, os.environ | {"PYTHONPATH": str(REPOSITORY)})


ROOMS = {
    "ingest": "from tasks.config import load_config; from tasks.ingest.sources import ingest_sources; "
    "ingest_sources(load_config().ingest).raise_errors()",
    "validate": "from tasks.config import load_config; from tasks.validate.stage import run; run(load_config())",
    "curate": "from tasks.config import load_config; from tasks.curate.stage import run; run(load_config())",
}


def run_rooms(root: Path) -> float:
    total = 0.0
    for room, code in ROOMS.items():
        seconds, peak = in_process(code, root)
        print(f"  {room:<9}{seconds:8.1f} s   peak {peak:7.0f} MB", flush=True)
        total += seconds
    return total


def stored_bytes(root: Path) -> int:
    """Bytes of data/ and .strop; a hard-linked file is counted once."""
    seen = {
        (s.st_dev, s.st_ino): s.st_size
        for p in (root / "data", root / ".strop")
        for f in p.rglob("*")
        if f.is_file()
        for s in [f.stat()]
    }
    return sum(seen.values())


def whole_and_increment(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_project(root)
        size = Writer(1).write(root / "inbox/a.jsonl", rows)
        print(f"whole: {rows:,} rows, {size / 1e6:.0f} MB")
        whole = run_rooms(root)
        print(f"  together {whole:8.1f} s   (target for a million: 300 s, 3,000 MB)")
        before = stored_bytes(root)
        print(f"  stored {before / size:.2f} x the file")
        batch = Writer(2).write(root / "inbox/b.jsonl", 1_000)
        print("increment: 1,000 more rows")
        increment = run_rooms(root)
        stored = (stored_bytes(root) - before) / batch
        print(f"  time {increment / whole:.1%} of the whole (target 5 %), stored {stored:.2f} x the batch (target 1.2)")


def small_batches() -> None:
    """Files of 10 rows, each of which becomes a batch."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_project(root)
        writer = Writer(7)
        for number in range(BATCHES):
            writer.write(root / f"inbox/{number:05d}.jsonl", 10)
        print(f"small: {BATCHES:,} new batches of 10 rows")
        run_rooms(root)
        writer.write(root / "inbox/more.jsonl", 10)
        print("  one more")
        run_rooms(root)


def make_project(root: Path) -> None:
    (root / "params.yaml").write_text(PARAMS)
    for name in ("data/contract", "data/templates"):
        shutil.copytree(REPOSITORY / name, root / name)
    shutil.copy(REPOSITORY / "dvc.yaml", root / "dvc.yaml")


def nothing_new() -> None:
    """A project with 10,000 batches, all of them known. Toy stages copy files, so that DVC has as many files to check."""
    stages = {
        "validate": ("data/raw", "data/validated"),
        "curate": ("data/validated", "data/curated"),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_project(root)
        lines = ["stages:"]
        for stage, (source, target) in stages.items():
            lines += [
                f"  {stage}:",
                f"    cmd: cp -r {source} {target}",
                f"    deps: [{source}]",
                f"    outs: [{target}]",
            ]
        (root / "dvc.yaml").write_text("\n".join(lines) + "\n")
        (root / "inbox").mkdir()
        for number in range(BATCHES):
            (root / f"inbox/{number:05d}.jsonl").write_text(
                json.dumps({"instruction": f"question {number}", "output": f"answer {number}"}) + "\n"
            )
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }
        seconds, peak = in_process(ROOMS["ingest"], root)
        print(f"nothing new: {BATCHES:,} files ingested in {seconds:.0f} s, peak {peak:.0f} MB")
        shutil.copytree(REPOSITORY / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        for command in (["git", "init", "-q"], ["dvc", "add", "-q", "data/raw"], ["dvc", "repro", "-q"]):
            subprocess.run(command, cwd=root, check=True, env=environment)
        for name in ("first run", "second run"):
            start = time.perf_counter()
            done = subprocess.run(["strop", "run"], cwd=root, env=environment, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            print(
                f"  {name:<12}{seconds:6.1f} s (target 5): {(done.stdout + done.stderr).strip().splitlines()[-1][:100]}"
            )


def main(rows: int, parts: list[str]) -> None:
    quieten()
    if "near" in parts:
        require_library("datasketch")
    if "whole" in parts:
        whole_and_increment(rows)
    if "small" in parts:
        small_batches()
    if "near" in parts:
        near()
    if "nothing" in parts:
        nothing_new()


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    main(
        numbers[0] if numbers else 1_000_000,
        [argument for argument in sys.argv[1:] if not argument.isdigit()] or ["whole", "small", "near", "nothing"],
    )
