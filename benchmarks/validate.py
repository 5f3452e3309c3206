"""Validate and quarantine against Great Expectations alone. Run: .venv/bin/python benchmarks/validate.py [ROWS]

A frame of ROWS (default 1,000,000) rows × 6 columns of about 300 characters, one row in five Chinese, bad rows planted, is
written once as parquet. Each way of judging it is a process of its own, which reads that file:

    great_expectations   pandas.read_parquet, then 20 built-in expectations, COMPLETE results with the failing row ids
    strop 1, strop 2     the room's predicates on record batches, with one and with two worker processes: the same 20 rules
                         and those that always hold (damage, lengths in segments); the verdict; accepted and quarantined
                         rows written

Seconds are those of the process from its first line to its result: imports, reading and starting workers are in. Peak memory
is that of the process and its children together, sampled every 20 ms. The failing row ids of every rule must be the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY)]

COLUMNS = ("system", "history", "instruction", "input", "output", "rejected")
GROUP = 20_000
LONGEST = 450
LENGTH = 300
VOCABULARY = 4_000
POOL_CHARACTERS = 8_000_000


def text_pools() -> tuple[str, str]:
    """English and Chinese to cut texts from: words and characters drawn by a fixed seed, the frequent ones often."""
    import numpy as np

    draw = np.random.default_rng(0)
    rank = 1 / np.arange(1, VOCABULARY + 1)
    letters = draw.choice(list("etaoinshrdlcumwfgypbvk"), size=(VOCABULARY, 9))
    words = ["".join(row[: 2 + number % 8]) for number, row in enumerate(letters)]
    english = " ".join(draw.choice(words, POOL_CHARACTERS // 5, p=rank / rank.sum()))
    bytes_ = [(first, second) for first in range(0xB0, 0xD7) for second in range(0xA1, 0xFF)]
    common = [bytes(pair).decode("gb2312") for pair in bytes_]  # the 3,666 that Chinese standards call common
    rank = np.append(rank[: len(common)], [0.4, 0.3])
    return english, "".join(draw.choice([*common, "，", "。"], POOL_CHARACTERS // 2, p=rank / rank.sum()))


def text_of(row: int, place: int, pools: tuple[str, str]) -> str | None:
    """A cell: now and then none, one with an address, or one that is too long."""
    trouble = (row * 7 + place * 1009) % 5003
    if trouble == 1:
        return None
    pool = pools[row % 5 == 0]
    begin = (row * 6 + place) * 2654435761 % (len(pool) - 2 * LENGTH)
    text = pool[begin : begin + LENGTH - 40 + row % 80]
    if trouble == 2:
        return f"{text} see https://example.org/"
    return text * 2 if trouble == 3 else text


def write_frame(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pools = text_pools()
    names = ("row_id", "own_id", "language", "problem", *COLUMNS)
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, GROUP):
            numbers = range(first, min(first + GROUP, rows))
            columns: dict[str, Any] = {
                "row_id": [f"{number * 2654435761 % 2**64:032x}" for number in numbers],
                "own_id": [f"id-{number - 1 if number % 4001 == 4000 else number}" for number in numbers],
                "language": ["fr" if number % 3001 == 5 else "zh" if number % 5 == 0 else "en" for number in numbers],
                "problem": [""] * len(numbers),
            }
            columns |= {
                name: [text_of(number, place, pools) for number in numbers] for place, name in enumerate(COLUMNS)
            }
            writer.write_table(pa.table(columns, schema=schema))


def judge_with_great_expectations(path: Path) -> dict[str, list[str]]:
    """Rule → failing row ids, by built-in expectations on a pandas frame."""
    import great_expectations as gx
    import pandas as pd

    frame = pd.read_parquet(path)
    expect = gx.expectations
    named = {f"{name} is there": expect.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS}
    named |= {
        f"{name} is short": expect.ExpectColumnValueLengthsToBeBetween(column=name, max_value=LONGEST)
        for name in COLUMNS
    }
    named |= {
        f"{name} has no address": expect.ExpectColumnValuesToNotMatchRegex(column=name, regex="https?://")
        for name in COLUMNS
    }
    named["language"] = expect.ExpectColumnValuesToBeInSet(column="language", value_set=["en", "zh"])
    named["own_id"] = expect.ExpectColumnValuesToBeUnique(column="own_id")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frame").add_dataframe_asset(name="frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})
    suite = gx.ExpectationSuite(name="suite", expectations=list(named.values()))
    complete = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row_id"]}
    failed: dict[str, list[str]] = {}
    for result in batch.validate(suite, result_format=complete).results:
        column, kind = result.expectation_config.kwargs["column"], result.expectation_config.type
        rows = result.result.get("unexpected_index_list") or []
        assert not any(info.get("raised_exception") for info in [result.exception_info] if isinstance(info, dict))
        failed[_called(column, kind)] = [row["row_id"] for row in rows]
    return failed


def _called(column: str, kind: str) -> str:
    if column not in COLUMNS:
        return column
    return f"{column} {'is there' if 'null' in kind else 'is short' if 'length' in kind else 'has no address'}"


def contract() -> Any:
    """The same rules, as a contract says them. That a field is there is a rule a column too, to compare them one by one."""
    from tasks.validate.contract import FamilyContract

    rules = []
    for name in COLUMNS:
        rules.append({"name": f"{name}_is_there", "expression": f"length({name}) > 0"})
        rules.append({"name": f"{name}_is_short", "expression": f"length({name}) <= {LONGEST}"})
        rules.append({"name": f"{name}_has_no_address", "field": name, "must_not_match": "https?://"})
    return FamilyContract.model_validate_json(json.dumps({"languages": ["en", "zh"], "rules": rules}))


def look_at(path: Path, group: int) -> Any:
    """What is found in a chunk of the frame: the room's own function on a record batch."""
    import pyarrow.parquet as pq

    from tasks.validate.judge import find

    with pq.ParquetFile(path) as file:
        return find(file.read_row_group(group, use_threads=False), contract())


def refused_rows(path: Path, group: int, reasons: list[str]) -> Any:
    """The refused rows of a chunk, whole, each with its reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = pa.array([place for place, reason in enumerate(reasons) if reason], pa.int64())
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(group, use_threads=False).take(chosen)
    return rows.append_column("reason", pa.array(reasons, pa.string()).take(chosen))


def judge_with_strop(path: Path, processes: int) -> dict[str, list[str]]:
    """The verdict and its files; rule → failing row ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.files import write_parquet
    from tasks.validate.judge import decide, fold
    from tasks.validate.rules import rules_of
    from tasks.validate.stream import ParquetStream
    from tasks.validate.workers import Workers

    pa.set_cpu_count(1)
    with pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        schema = file.schema_arrow.append(pa.field("reason", pa.string()))
    workers = Workers(processes)
    found = fold(list(workers.map(look_at, ((path, group) for group in groups))), contract())
    verdict = decide(found, contract(), 1.0)
    write_parquet(path.with_name("accepted.parquet"), verdict.accepted)

    def refused() -> Iterator[tuple[Path, int, list[str]]]:
        for group in groups:
            yield path, group, verdict.reasons[group * GROUP : (group + 1) * GROUP]

    with ParquetStream(path.with_name("quarantined.parquet"), schema) as stream:
        for rows in workers.map(refused_rows, refused()):
            stream.write(rows)
    workers.close()
    codes = [rule.code for rule in rules_of(contract())]
    return {
        code: found.row_ids.filter(pa.array(found.broken[place])).to_pylist()
        for place, code in enumerate(codes)
        if found.broken[place].any()
    }


def measure(path: Path, side: str) -> tuple[float, int]:
    """Runs a side in a process of its own; its seconds, and the peak memory of it and its children in bytes."""
    import psutil

    child = subprocess.Popen([sys.executable, __file__, "--side", side, str(path)])
    process, peak = psutil.Process(child.pid), 0
    began = time.monotonic()
    while child.poll() is None:
        total = 0
        for each in [process, *_children(process)]:
            try:
                total += each.memory_info().rss
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"{side} failed")
    return time.monotonic() - began, peak


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def must_agree(gx: dict[str, list[str]], strop: dict[str, list[str]]) -> int:
    """Compares the failing ids rule by rule; how many there are.

    Great Expectations calls both rows bad where an id stands twice, Strop the second alone.
    """
    wanted = {name.replace(" ", "_"): set(ids) for name, ids in gx.items()}
    assert wanted.pop("language") == set(strop["language_not_allowed"])
    twice = wanted.pop("own_id")
    assert set(strop["duplicate_id"]) <= twice
    assert len(twice) == 2 * len(strop["duplicate_id"])
    for name, ids in wanted.items():
        assert ids == set(strop.get(name, [])), name
    return sum(map(len, gx.values()))


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.parquet"
        write_frame(path, rows)
        print(f"{rows:,} rows × {len(COLUMNS)} columns, {path.stat().st_size / 1e6:,.0f} MB of parquet")
        path.read_bytes()  # so that no side is the first to read from the disk
        results: dict[str, tuple[float, int]] = {}
        for side in ("great_expectations", "strop 2", "strop 1"):
            results[side] = measure(path, side)
        failed = {side: json.loads(path.with_name(f"{side}.json").read_text()) for side in results}
        assert failed["strop 1"] == failed["strop 2"]
        count = must_agree(failed["great_expectations"], failed["strop 2"])
    base = results["great_expectations"]
    print(f"{count:,} failing cells, the same row ids for every rule\n")
    print(f"{'':22}{'seconds':>9}{'of GX':>8}{'peak MB':>10}{'of GX':>8}")
    for side, (seconds, peak) in results.items():
        print(f"{side:22}{seconds:9.1f}{seconds / base[0]:8.2f}{peak / 1e6:10,.0f}{peak / base[1]:8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side, place = sys.argv[2], Path(sys.argv[3])
        is_gx = side == "great_expectations"
        found = judge_with_great_expectations(place) if is_gx else judge_with_strop(place, int(side.split()[1]))
        place.with_name(f"{side}.json").write_text(json.dumps(found))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
