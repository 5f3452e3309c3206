"""Validation and quarantine, against Great Expectations alone. Run: .venv/bin/python benchmarks/validate.py [ROWS]

A frame of ROWS (default 1,000,000) rows × 6 columns of about 300 characters is written once as Parquet; one row in five is Chinese,
and some rows are bad. Each validator reads that file in a process of its own:

    great_expectations   pandas.read_parquet, then 20 built-in expectations, COMPLETE results with the failing row ids
    strop 1, strop 2     the predicates of `validate` on record batches, with one and with two worker processes: the same 20
                         rules, and those of every contract (damage, lengths in segments); the verdict; accepted and
                         quarantined rows are written

Seconds cover the whole process, with imports, reading and the start of worker processes. Peak memory is that of the process and its
children together, sampled every 20 ms. The failing row ids of every rule must be equal.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from measuring import REPOSITORY, quieten, run_measured
from validate_frame import COLUMNS, write_frame
from validate_sides import judge_with_great_expectations, judge_with_strop

sys.path[:0] = [str(REPOSITORY)]


def must_agree(gx: dict[str, list[str]], strop: dict[str, list[str]]) -> int:
    """Compares the failing ids rule by rule; returns their number.

    If an id occurs twice, Great Expectations reports both rows, Strop only the second.
    """
    expected = {name.replace(" ", "_"): set(ids) for name, ids in gx.items()}
    assert expected.pop("language") == set(strop["language_not_allowed"])
    repeated = expected.pop("own_id")
    assert set(strop["duplicate_id"]) <= repeated
    assert len(repeated) == 2 * len(strop["duplicate_id"])
    for name, ids in expected.items():
        assert ids == set(strop.get(name, [])), name
    return sum(map(len, gx.values()))


def main(rows: int) -> None:
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.parquet"
        write_frame(path, rows)
        print(f"{rows:,} rows × {len(COLUMNS)} columns, {path.stat().st_size / 1e6:,.0f} MB of Parquet")
        path.read_bytes()  # so that no validator is the first to read from the disk
        results: dict[str, tuple[float, float]] = {}
        for side in ("great_expectations", "strop 2", "strop 1"):
            command = [sys.executable, __file__, "--side", side, str(path)]
            results[side] = run_measured(command, every_seconds=0.02)
        failed = {side: json.loads(path.with_name(f"{side}.json").read_text()) for side in results}
        assert failed["strop 1"] == failed["strop 2"]
        count = must_agree(failed["great_expectations"], failed["strop 2"])
    base = results["great_expectations"]
    print(f"{count:,} failing cells, equal row ids for every rule\n")
    print(f"{'':22}{'seconds':>9}{'of GX':>8}{'peak MB':>10}{'of GX':>8}")
    for side, (seconds, peak) in results.items():
        print(f"{side:22}{seconds:9.1f}{seconds / base[0]:8.2f}{peak:10,.0f}{peak / base[1]:8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side, frame = sys.argv[2], Path(sys.argv[3])
        is_gx = side == "great_expectations"
        failed = judge_with_great_expectations(frame) if is_gx else judge_with_strop(frame, int(side.split()[1]))
        frame.with_name(f"{side}.json").write_text(json.dumps(failed))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
