"""Every row of the dataset either has an example or is left out for a reason: the numbers add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part

from flows.report.row_table import lines_of, read_data
from tasks import paths
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.dataset.read import read_dataset
from tasks.dataset.rendered import TEST, read_left_out, read_rendered
from tasks.records.row import row_id_of
from tasks.render.stage import run as render
from tasks.runtime.files import read_json


def changed(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    new = {**row, **fields}
    return {**new, "row_id": row_id_of(new)}


def mixed_rows() -> list[dict[str, Any]]:
    """Some too long, some raw text, some judged bad, some pairs, some made."""
    rows = toy_rows(120, 60)
    changes: dict[int, dict[str, Any]] = {
        1: {"output": "很长 and long " * 400},
        2: {"rejected": "A worse answer."},
        3: {"desirable": "false"},
        4: {"instruction": "", "input": ""},
        5: {"synthetic": "paraphrase"},
        6: {"instruction": "word " * 600},
    }
    return [
        changed(row, **changes.get(place % 9, {})) if row["family"] == "qa" else row for place, row in enumerate(rows)
    ]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"render": {"balance": [{"family": "topic", "each": ["label"], "max_rows": 9}, {"family": "qa", "weight": 2.5}]}},
    {"render": {"balance": [{"weight": 0.5}], "max_synthetic_share": 0.0}},
    {"render": {"max_synthetic_share": 0.0, "processes": 2}},
    {"finetune": {"objective": "pretrain"}},
    {"finetune": {"before": [{"objective": "pretrain"}]}},
    {"finetune": {"objective": "dpo", "micro_batch_rows": 2}},
    {"finetune": {"before": [{"objective": "sft"}], "objective": "kto", "micro_batch_rows": 2}},
    {"finetune": {"before": [{"objective": "sft"}], "objective": "dpo", "micro_batch_rows": 2}},
    {"finetune": {"objective": "classify"}},
    {"finetune": {"objective": "grpo", "micro_batch_rows": 2}},
    {"finetune": {"objective": "reward", "micro_batch_rows": 2}},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_rows_with_and_without_an_example_are_the_dataset(
    settings: dict[str, Any], project: Path, tiny_llama: Path
) -> None:
    write_params(project, params(tiny_llama, [], curate={"near_duplicates": "off", "test_share": 0.3}, **settings))
    config = load_config()
    begin_round(config)
    write_part(mixed_rows())
    curate(config)
    render(config)
    dataset = {row["row_id"]: row["split"] for row in read_dataset().to_pylist()}
    left_out = read_left_out().to_pylist()
    without = {row["row_id"]: row["split"] for row in left_out}
    assert len(without) == len(left_out), "a row is in it once"
    assert {"answer_too_long", "balance", "not_of_the_objective", "not_a_classification", "prompt_too_long"} & {
        row["reason"] for row in left_out
    }
    made = {row_id: split for split in ("train", "valid") for row_id in ids_of(split)}
    made |= dict.fromkeys(pq.read_table(TEST)["row_id"].to_pylist(), "test")
    assert made.keys() & without.keys() == set()
    assert {**made, **without} == dataset
    report = read_json(paths.RENDER_REPORT)
    validated = {"rows": 200, "accepted": 200, "refused": 0, "reasons": {}, "set_aside": []}
    curated = {**read_json(paths.CURATE_REPORT), "rows": 200}
    data = read_data(validated, curated, report)
    assert data is not None
    assert data.used == {split: sum(side == split for side in made.values()) for split in ("train", "valid", "test")}


def ids_of(split: str) -> set[str]:
    result: set[str] = set()
    for folder in paths.RENDERED.iterdir():
        if (folder / split / "ids.npy").exists():
            result |= {row_id.decode() for row_id in np.load(folder / split / "ids.npy").tolist()}
        if (folder / f"{split}.parquet").exists():
            result |= set(pq.read_table(folder / f"{split}.parquet")["row_id"].to_pylist())
    return result


def test_the_rule_that_left_a_row_out_is_named(project: Path, tiny_llama: Path) -> None:
    rules = [{"family": "topic", "max_rows": 5}, {"family": "qa", "weight": 0}]
    write_params(project, params(tiny_llama, [], render={"balance": rules}))
    config = load_config()
    begin_round(config)
    write_part(toy_rows(60, 30))
    curate(config)
    render(config)
    details = {row["detail"] for row in read_left_out().to_pylist() if row["reason"] == "balance"}
    assert details == {"family topic: max_rows 5", "family qa: weight 0"}
    assert len(read_rendered("train").ids) == 5


def test_what_was_left_out_is_in_the_quarantine_and_known_of_the_row(
    project: Path, tiny_llama: Path, strop: Any
) -> None:
    """They were in no list, and `rows why` had them trained on."""
    write_params(project, params(tiny_llama, [], render={"balance": [{"family": "topic", "max_rows": 5}]}))
    config = load_config()
    begin_round(config)
    write_part(mixed_rows())
    curate(config)
    render(config)
    left_out = {row["row_id"]: row for row in read_left_out().to_pylist()}
    _, out, _ = strop("quarantine", "list", "--room", "render", "--json", "--limit", "1000")
    report = json.loads(out)
    assert report["rows"] == len(left_out)
    assert set(report["reasons"]) == {row["reason"] for row in left_out.values()} >= {"balance", "answer_too_long"}
    for row in report["shown"]:
        assert (row["room"], row["reason"]) == ("render", left_out[row["row_id"]]["reason"])
        assert row["line"]
        assert row["source"]
    _, out, _ = strop("quarantine", "list", "--reason", "answer_too_long", "--json")
    (first, *_) = json.loads(out)["shown"]
    _, out, _ = strop("quarantine", "show", first["row_id"])
    assert "answer_too_long" in out
    assert "很长" in out
    _, out, _ = strop("rows", "why", first["row_id"])
    assert f"kept, in split {left_out[first['row_id']]['split']}, but left out by render: answer_too_long" in out
    code, _, err = strop("quarantine", "release", first["row_id"], "--why", "x")
    assert code == 1
    assert "it is in the dataset already" in err


def check_sums(data: Any) -> None:
    """Each sum of the table is the one before it without the lines between them."""
    total = None
    for line in lines_of(data):
        if line.is_sum:
            assert total is None or total == line.count
            total = line.count
        else:
            assert total is not None
            total -= line.count


def test_the_lines_of_the_table_add_up() -> None:
    """The README's sample came to 611 of 600 rows: those that were too long were counted as kept, and as dropped."""
    validated = {
        "rows": 650,
        "accepted": 600,
        "refused": 20,
        "reasons": {"a": 12, "b": 8},
        "set_aside": [],
        "released": 3,
    }
    curated = {
        "rows": 600, "dropped": {"duplicate": 68, "near_duplicate": 4, "pii": 2}, "taken_out_later": 3,
        "splits": {"train": 370, "valid": 20, "test": 120},
    }  # fmt: skip
    without = {"train": {"prompt_too_long": 7, "balance": 40}, "test": {"answer_too_long": 4}}
    data = read_data(validated, curated, {"rows": curated["splits"], "without_example": without})
    assert data is not None
    check_sums(data)
    shown = [(line.count, line.name) for line in lines_of(data)]
    assert shown == [
        (650, "in"), (30, "excluded"), (20, "refused"), (72, "duplicates"), (5, "dropped"), (13, "not in the dataset"),
        (510, "kept"), (51, "left out"), (459, "used"),
    ]  # fmt: skip
    assert data.used == {"train": 323, "valid": 20, "test": 116}
    assert data.dropped["contaminated"] == 3


def test_reports_about_other_rows_say_nothing() -> None:
    validated = {"rows": 10, "accepted": 10, "refused": 0, "reasons": {}, "set_aside": []}
    splits = {"train": 6, "valid": 1, "test": 2}
    curated = {"rows": 10, "dropped": {"duplicate": 1}, "splits": splits}
    rendered = {"rows": splits, "without_example": {"train": {"balance": 1}}}
    for curates, renders, shown in (
        (curated, rendered, 6), (curated, {**rendered, "rows": {**splits, "train": 5}}, 4), (curated, {"dropped": {}}, 4),
        ({**curated, "rows": 9}, rendered, 2), (None, None, 2),
    ):  # fmt: skip
        data = read_data(validated, curates, renders)
        assert data is not None
        check_sums(data)
        assert len(lines_of(data)) == shown
