"""How long `strop audit` takes, and how fast its deep walk reads. Run: .venv/bin/python benchmarks/audit.py [PROJECT VERSION]

    hashing    MB/s of the deep walk for files in the page cache: `sha256` (raw batches, base, weights) and `md5` (DVC's other
               outputs), with a thread a core and with one
    names      rows/s of the second check of the deep walk: the names of raw batches, from their records of about 600 bytes
    walks      seconds of `strop audit VERSION` in PROJECT, process start included: quick, and --deep; and of `import mlflow` alone,
               which the audit does without

Without a project only the first part is measured. The demo's: .venv/bin/strop demo; then PROJECT is .demo and VERSION 1.
"""  # fmt: skip

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import REPOSITORY, quieten

sys.path[:0] = [str(REPOSITORY)]

FILES, FILE_BYTES = 4, 256 << 20
RUNS = 5
ROWS = 100_000
COMMAND = "import sys; sys.path[0] = {root!r}; from flows.cli.main import main; sys.exit(main())"


def main(project: str | None = None, version: str = "1") -> None:
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        measure_hashing(Path(folder))
        measure_names(Path(folder))
    if project:
        measure_walks(Path(project), version)


def measure_hashing(folder: Path) -> None:
    from tasks.audit.digests import ALGORITHMS, Digests

    files = [folder / f"{number}.bin" for number in range(FILES)]
    for file in files:
        with file.open("wb") as stream:
            for _ in range(FILE_BYTES >> 20):
                stream.write(os.urandom(1 << 20))
    size = FILES * FILE_BYTES / 1e6
    for algorithm, digest_of in ALGORITHMS.items():
        threads = [
            seconds_of(lambda: Digests(reads_all=True).read_ahead([(algorithm, file) for file in files]))  # noqa: B023
            for _ in range(RUNS)
        ]
        one = [seconds_of(lambda: [digest_of(file) for file in files]) for _ in range(RUNS)]  # noqa: B023
        print(
            f"{algorithm:<7} {os.cpu_count()} threads {size / statistics.median(threads):6.0f} MB/s   "
            f"one thread {size / statistics.median(one):6.0f} MB/s   (median of {RUNS}, {size:.0f} MB)"
        )


def measure_names(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.audit.digests import Digests
    from tasks.audit.file_checks import is_intact_batch
    from tasks.records.raw_batch import batch_id_of, identified
    from tasks.runtime.files import file_digest

    stored = [identified({"instruction": f"Question {number}?", "output": f"{number} " * 90}) for number in range(ROWS)]
    digests = [digest for _, digest in stored]
    columns = {"digest": digests, "record": [text for text, _ in stored], "raw": [None] * ROWS, "error": [None] * ROWS}
    path = folder / "batch.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd")
    batch = {"source": "s", "batch": batch_id_of("s", digests), "ordinal": 1, "rows": ROWS, "sha256": file_digest(path)}
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        assert is_intact_batch(path, batch, None, Digests(reads_all=True))
        times.append(time.perf_counter() - start)
    print(f"names   {ROWS / statistics.median(times):,.0f} rows/s   (median of {RUNS}, {ROWS:,} rows)")


def measure_walks(project: Path, version: str) -> None:
    code = COMMAND.format(root=str(REPOSITORY))
    walks = {"quick": ["audit", version], "deep": ["audit", version, "--deep"]}
    for name, arguments in walks.items():
        command = [sys.executable, "-c", code, *arguments]
        times = [seconds_of(lambda: run(command, project)) for _ in range(RUNS + 1)][1:]  # noqa: B023
        print(f"{name:<7} {statistics.median(times):5.2f} s   {', '.join(f'{value:.2f}' for value in times)}")
    mlflow = [seconds_of(lambda: run([sys.executable, "-c", "import mlflow"], project)) for _ in range(RUNS)]
    print(f"import mlflow {statistics.median(mlflow):5.2f} s")


def run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 1):
        raise SystemExit(result.stderr)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
