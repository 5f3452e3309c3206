"""The flow reports drift: a first run has no champion to compare with, a second lists the shifts, a third has nothing to report."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.toy_rows import write_jsonl
from support.toyflow import facts, make_toy_flow, output_and_log

CURATE = '''
def curate():
    """Every row is trained on."""
    import pyarrow as pa
    from tasks.runtime.files import write_parquet
    from tasks.state.manifest import read_manifest
    from tasks.records.parse import read_raw
    from tasks.records.row import CURATED_SCHEMA
    for batch in read_manifest():
        if (Path("data/validated") / f"{batch.batch}.parquet").exists():
            rows = [{"index": at, "row_id": row_id, "split": "train", "group": ""}
                    for at, row_id in enumerate(read_raw(batch)["digest"].to_pylist())]
            write_parquet(Path("data/curated") / batch.part, pa.Table.from_pylist(rows, CURATED_SCHEMA))
'''


def records(count: int, start: int, answer: str) -> list[dict[str, str]]:
    return [
        {"instruction": f"Which section is article {n} in?", "input": "", "output": answer}
        for n in range(start, start + count)
    ]


@pytest.mark.slow
def test_a_run_reports_drift_only_while_it_is_new(tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    toy = (root / "toy.py").read_text()
    copying = '\ndef curate():\n    shutil.copytree("data/validated", "data/curated")\n'
    assert copying in toy
    (root / "toy.py").write_text(toy.replace(copying, CURATE))
    write_jsonl(root / "inbox/one.jsonl", records(60, 0, "sport"))
    first = facts(root, "run")
    assert first["kind"] == "promoted"
    assert first["summary"]["drift"]["champion"] is None
    assert "No champion served before" in (root / "data/reports/summary.md").read_text(encoding="utf-8")

    write_jsonl(root / "inbox/two.jsonl", records(60, 100, "体育"))
    output, log = output_and_log(root, "run")
    assert "drift: from the data of v1" in log
    assert "Drift from the data of version 1" in output
    written = (root / "data/reports/summary.md").read_text(encoding="utf-8")
    assert "体育 0.0% → 50.0%" in written
    assert (root / "data/reports/drift.svg").exists()
    assert "drift" not in "".join(output_and_log(root, "run")), "nothing is new"
