"""kill -9 at any moment of an ingestion leaves the old manifest or the new one, and the next run has every row, once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.ingesting import ingest, raw_rows
from support.project import REPOSITORY
from support.toy_rows import write_jsonl

from tasks import paths
from tasks.runtime.files import file_digest
from tasks.state.manifest import Batch, read_manifest

SOURCES = [
    {"name": name, "path": f"in/{name}*.jsonl", "shape": "text_label", "family": "topic"} for name in ("one", "two")
]
CODE = """
import json, sys
from tasks.ingest.settings import IngestSettings
from tasks.ingest.sources import ingest_sources
from tasks.ingest import batches
batches.ROWS_AT_ONCE = 200
settings = IngestSettings.model_validate_json(sys.argv[1])
import pyarrow.parquet
print("ready", flush=True)
ingest_sources(settings)
"""


def write_files(round_number: int) -> None:
    for source in SOURCES:
        for part in range(3):
            rows = [{"text": f"{source['name']} {part} {round_number} {n}", "label": "x"} for n in range(2000)]
            write_jsonl(Path(f"in/{source['name']}-{round_number}-{part}.jsonl"), rows)


def ingest_beside(kill_after: float | None = None) -> tuple[bool, float]:
    """Ingests in a process of its own. Was it killed, and how long did it take?"""
    command = [sys.executable, "-c", CODE, json.dumps({"sources": SOURCES})]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        began = time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        code = process.wait()
    assert code in (0, -signal.SIGKILL)
    return code != 0, time.monotonic() - began


def is_whole(batch: Batch) -> bool:
    return file_digest(batch.path) == batch.sha256 and pq.read_metadata(batch.path).num_rows == batch.rows


@pytest.mark.chaos
def test_a_killed_ingestion_leaves_one_manifest_or_the_other_and_the_next_run_has_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    killed = 0
    write_files(0)
    _, whole = ingest_beside()
    shares = [0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95]
    random.Random(0).shuffle(shares)
    for round_number, share in enumerate(shares, 1):
        before = read_manifest()
        write_files(round_number)
        killed += ingest_beside(kill_after=share * whole)[0]
        left = read_manifest()  # it can be read, and goes on where it was
        assert left[: len(before)] == before
        assert all(is_whole(batch) for batch in left)
        ingest(*SOURCES)
        for source in SOURCES:
            texts = [json.loads(row["record"])["text"] for row in raw_rows(str(source["name"]))]
            assert len(texts) == len(set(texts)) == 6000 * (round_number + 1)
        assert not ingest(*SOURCES).new
        assert not list(paths.RAW.rglob(".*"))
        assert [batch.ordinal for batch in read_manifest()] == list(range(1, len(read_manifest()) + 1))
    assert killed >= 4, "the ingestion was over too soon: the test says little"
