"""Room `curate` on real instructions, in which the same examples occur in many templates."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

from support.project import params, write_params
from support.realdata import real
from support.toy_curation import check_no_pair_is_in_two_splits, make
from support.toy_rows import write_part

from tasks import paths
from tasks.config import load_config
from tasks.curate.stage import run
from tasks.dataset.read import read_dataset
from tasks.runtime.files import read_json


def test_no_repeated_text_of_t0_is_both_trained_and_tested_on(project: Path) -> None:
    with gzip.open(real("t0/t0.jsonl.gz"), "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in itertools.islice(file, 0, 20_000, 20)]
    rows = [make(r["prompt"], r["completion"], "b1", n) for n, r in enumerate(records) if r["completion"].strip()]
    rows = [{**row, "index": index} for index, row in enumerate(rows)]
    write_part(rows)
    write_params(project, params("base", [], curate={}))
    run(load_config())
    report = read_json(paths.CURATE_REPORT)
    assert report["rows"] == len(rows) == report["kept"] + sum(report["dropped"].values())
    assert report["kept"] == read_dataset().num_rows
    assert report["kept"] >= 0.9 * len(rows)
    assert report["cleaned"]["end_markers"] > 900, "t0's completions end in a literal <|endoftext|>"
    check_no_pair_is_in_two_splits()
