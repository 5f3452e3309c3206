"""The data rooms: how fast, in how much memory, and what one new batch costs. Run: .venv/bin/python benchmarks/data.py [ROWS]

    whole        ingest + validate + curate of ROWS rows (a million): seconds, peak memory of the process tree
    increment    one new batch of 1,000 rows on top: share of the whole's time, bytes stored over the batch's
    nothing new  10,000 batches known: seconds until that is said
    near         near-duplicates of 100,000 rows against datasketch's MinHashLSH, same threshold; recall and precision

The rows are made: words by Zipf's law, a tenth of them Chinese, 2 % duplicates, 2 % near-duplicates, 1 % with an e-mail address.
Each step runs in a process of its own, as the pipeline's stages do. `near` needs datasketch: pip install datasketch
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
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
NEAR_ROWS = 100_000
BATCHES = 10_000


class Writer:
    """Makes rows."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        words = [
            "".join(self.draw.choices("abcdefghijklmnopqrstuvwxyz", k=self.draw.randint(2, 9))) for _ in range(20_000)
        ]
        characters = [chr(self.draw.randint(0x4E00, 0x8FFF)) for _ in range(3_000)]
        self.words, self.characters = words, characters
        self.word_weights = list(itertools.accumulate(1 / (place + 5) for place in range(len(words))))
        self.character_weights = list(itertools.accumulate(1 / (place + 5) for place in range(len(characters))))

    def english(self, count: int) -> str:
        return " ".join(self.draw.choices(self.words, cum_weights=self.word_weights, k=count))

    def chinese(self, count: int) -> str:
        return "".join(self.draw.choices(self.characters, cum_weights=self.character_weights, k=count))

    def rows(self, count: int) -> Iterator[dict[str, str]]:
        """About 600 bytes a row."""
        earlier: list[dict[str, str]] = []
        for _ in range(count):
            chance = self.draw.random()
            if chance < 0.04 and earlier:
                row = dict(self.draw.choice(earlier))
                if chance < 0.02:
                    row["input"] += " indeed" if row["input"].isascii() else "啊"
            elif chance < 0.14:
                row = {"instruction": self.chinese(12), "input": self.chinese(90), "output": self.chinese(60)}
            else:
                row = {"instruction": self.english(8), "input": self.english(45), "output": self.english(35)}
            if chance > 0.99:
                row["output"] += " mail li@example.org"
            if len(earlier) < 2_000:
                earlier.append(row)
            yield row

    def write(self, path: Path, count: int) -> int:
        """Writes a file of rows and returns its size."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for row in self.rows(count):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return path.stat().st_size


def in_process(code: str, root: Path) -> tuple[float, float]:
    """Runs Python in the project; seconds, and the peak memory of it and its children together, in MB."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    script = root / ".bench.py"  # a file: worker processes import it again
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(script)], cwd=root, env=environment, stdout=subprocess.DEVNULL)
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    if process.wait():
        raise SystemExit(f"failed: {code}")
    seconds = time.perf_counter() - start
    watcher.join()
    return seconds, peak[0]


def _watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    import psutil

    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [root, *root.children(recursive=True)]
            peak[0] = max(peak[0], sum(each.memory_info().rss for each in family) / 1e6)
        except psutil.Error:
            pass
        time.sleep(0.1)


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
    """Bytes of data/ and .strop, a hard-linked file once."""
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
        print(f"  together {whole:8.1f} s   (bound for a million: 300 s, 3,000 MB)")
        before = stored_bytes(root)
        print(f"  stored {before / size:.2f} x the file")
        batch = Writer(2).write(root / "inbox/b.jsonl", 1_000)
        print("increment: 1,000 rows on top")
        again = run_rooms(root)
        stored = (stored_bytes(root) - before) / batch
        print(f"  time {again / whole:.1%} of the whole (bound 5 %), stored {stored:.2f} x the batch (1.2)")


def make_project(root: Path) -> None:
    (root / "params.yaml").write_text(PARAMS)
    for name in ("data/contract", "data/templates"):
        shutil.copytree(REPOSITORY / name, root / name)
    shutil.copy(REPOSITORY / "dvc.yaml", root / "dvc.yaml")


def near() -> None:
    """Finds planted near-duplicates: our bands and proof, and datasketch's index with its estimate."""
    from tasks.curate.sketch import SHINGLE_TOKENS
    from tasks.text import segment

    writer = Writer(3)
    texts = [
        f"{row['instruction']} {row['input']}" for row in writer.rows(NEAR_ROWS - 5_000) if "indeed" not in row["input"]
    ]
    texts = list(dict.fromkeys(texts))
    planted = [(place, len(texts) + n) for n, place in enumerate(range(0, 5_000 * 10, 10))]
    texts += [_changed(texts[place]) for place, _ in planted]

    start = time.perf_counter()
    found = _ours(texts)
    ours = time.perf_counter() - start
    print(f"near: {len(texts):,} rows, {len(planted):,} planted")
    wanted = {pair for pair, similarity in _exact_of(planted, texts).items() if similarity >= 0.8}
    _tell_found("strop", ours, found, wanted, texts)

    from datasketch import MinHash, MinHashLSH

    start = time.perf_counter()
    index = MinHashLSH(threshold=0.8, num_perm=112)
    theirs = set()
    for number, text in enumerate(texts):
        tokens = segment(text)
        signature = MinHash(num_perm=112)
        signature.update_batch(
            [" ".join(tokens[i : i + SHINGLE_TOKENS]).encode() for i in range(max(len(tokens) - SHINGLE_TOKENS + 1, 1))]
        )
        theirs.update((other, number) for other in index.query(signature))
        index.insert(number, signature)
    seconds = time.perf_counter() - start
    _tell_found("datasketch", seconds, theirs, wanted, texts)
    print(f"  ratio {seconds / ours:.1f} (must reach 10), one process each")


def _tell_found(
    name: str, seconds: float, found: set[tuple[int, int]], wanted: set[tuple[int, int]], texts: list[str]
) -> None:
    similar = list(_exact_of(sorted(found)[:20_000], texts).values())
    precision = sum(each >= 0.8 for each in similar) / max(len(similar), 1)
    print(f"  {name:<11}{seconds:8.1f} s   recall {len(wanted & found) / len(wanted):.3f}   precision {precision:.3f}")


def _changed(text: str) -> str:
    return text + " indeed" if text.isascii() else text + "啊"


def _ours(texts: list[str]) -> set[tuple[int, int]]:
    import numpy as np

    from tasks.curate.known import Known
    from tasks.curate.near import candidate_pairs, similarities
    from tasks.curate.sketch import bands_of, rows_in_band, shingles_of
    from tasks.curate.tokens import tokenise

    bands = [
        bands_of(*shingles_of(tokenise(texts[i : i + 10_000])), rows_in_band(0.8)) for i in range(0, len(texts), 10_000)
    ]
    count = len(texts)
    nothing = np.empty(0)
    known = Known(
        nothing,
        nothing,
        np.arange(count),
        nothing,
        nothing,
        np.concatenate(bands).T.copy(),
        nothing,
        nothing,
        nothing,
        nothing,
    )  # type: ignore[arg-type]
    pairs = candidate_pairs(known, 0, np.ones(count, np.bool_))
    rows = np.unique(pairs)
    proved = pairs[similarities(pairs, rows, [texts[row] for row in rows.tolist()]) >= 0.8]
    return {(first, second) for first, second in proved.tolist()}


def _exact_of(pairs: list[tuple[int, int]], texts: list[str]) -> dict[tuple[int, int], float]:
    """The true similarity of pairs, over sets of strings: none of our hashes."""
    from tasks.curate.sketch import SHINGLE_TOKENS
    from tasks.text import segment

    def shingles(text: str) -> set[tuple[str, ...]]:
        tokens = segment(text)
        return {tuple(tokens[i : i + SHINGLE_TOKENS]) for i in range(len(tokens) - SHINGLE_TOKENS + 1)}

    found = {}
    for pair in pairs:
        first, second = shingles(texts[pair[0]]), shingles(texts[pair[1]])
        found[pair] = len(first & second) / len(first | second)
    return found


def nothing_new() -> None:
    """A project with 10,000 batches, all of them known: toy stages copy files, so that DVC has as much to look at."""
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
        for name in ("first look", "second look"):
            start = time.perf_counter()
            done = subprocess.run(["strop", "run"], cwd=root, env=environment, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            print(
                f"  {name:<12}{seconds:6.1f} s (bound 5): {(done.stdout + done.stderr).strip().splitlines()[-1][:100]}"
            )


def main(rows: int, parts: list[str]) -> None:
    if "whole" in parts:
        whole_and_increment(rows)
    if "near" in parts:
        near()
    if "nothing" in parts:
        nothing_new()


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    main(
        numbers[0] if numbers else 1_000_000,
        [each for each in sys.argv[1:] if not each.isdigit()] or ["whole", "near", "nothing"],
    )
