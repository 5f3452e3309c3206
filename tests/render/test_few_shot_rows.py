"""Test rows with examples (`evaluate.shots`), and anchors (`evaluate.anchors`): which rows, which prompts, and what is counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_jsonl, write_part

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.dataset.read import read_dataset
from tasks.dataset.rendered import ANCHORS, SHOTS, TEST
from tasks.errors import ConfigError, DataError
from tasks.render.anchors import read_anchors
from tasks.render.shots import POOL_ROWS, choose_pools, examples_of
from tasks.render.stage import run as render
from tasks.runtime.files import file_digest, folder_digest, read_json

ANCHORS_FILE = "data/forgetting/anchors.jsonl"
ENGLISH = {"family": "qa", "instruction": "Name the largest planet.", "input": "", "output": "Jupiter."}
CHINESE = {"family": "qa", "input": "最大的行星叫什么？", "output": "木星。"}
LABEL = {"family": "topic", "input": "The match ended with a goal.", "output": "sport"}


def rendered(base: Path, rows: list[dict[str, Any]], max_length_tokens: int = 256, **evaluate: Any) -> dict[str, Any]:
    """Renders the rows in the current project; returns the report."""
    lengths = {"max_length_tokens": max_length_tokens, "pack_length_tokens": 256}
    settings = {"curate": {"near_duplicates": "off", "test_share": 0.3}, "render": lengths, "evaluate": evaluate}
    write_params(Path(), params(base, [], **settings))
    config = load_config()
    begin_round(config)
    write_part(rows)
    curate(config)
    render(config)
    report: dict[str, Any] = read_json(paths.RENDER_REPORT)
    return report


def table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_examples_are_training_rows_of_the_same_family_and_language_before_the_question(
    project: Path, tiny_llama: Path
) -> None:
    report = rendered(tiny_llama, toy_rows(24, 30), shots=2)
    test, shots = table(TEST), table(SHOTS)
    assert [row["row_id"] for row in shots] == [row["row_id"] for row in test]
    assert report["shots"] == {"shots": 2, "rows": len(test), "fewer": 0}
    training = [row for row in read_dataset().to_pylist() if row["split"] == "train"]
    tokenizer = load_tokenizer(tiny_llama)
    assert {row["language"] for row in test} == {"en", "zh"}
    for plain, row in zip(test, shots, strict=True):
        assert row["shots"] == 2
        assert row["prompt"].endswith(plain["prompt"].removeprefix("<|endoftext|>")[-40:])
        assert (row["question"], row["target"], row["kind"]) == (plain["question"], plain["target"], plain["kind"])
        examples = [each for each in training if (each["input"] or each["instruction"]) in row["prompt"]]
        assert len(examples) == 2
        assert {(each["family"], each["language"]) for each in examples} == {(plain["family"], plain["language"])}
        assert all(
            row["prompt"].index(each["output"]) < row["prompt"].rindex(plain["question"][:20]) for each in examples
        )
        assert tokenizer(row["prompt"], add_special_tokens=False)["input_ids"] == row["prompt_ids"]
    first = folder_digest(paths.RENDERED)
    render(load_config())
    assert folder_digest(paths.RENDERED) == first, "the same examples each time"


def test_a_prompt_that_is_too_long_loses_examples_and_is_counted(project: Path, tiny_gpt2: Path) -> None:
    report = rendered(tiny_gpt2, toy_rows(24, 20), max_length_tokens=128, shots=3, max_new_tokens=380)
    rows = table(SHOTS)
    numbers = Counter(row["shots"] for row in rows)
    assert report["shots"]["fewer"] == sum(count for number, count in numbers.items() if number < 3) > 0
    assert max(len(row["prompt_ids"]) for row in rows) + 380 <= 512, "the context of the base"
    plain = {row["row_id"]: row["prompt_ids"] for row in table(TEST)}
    rendered(tiny_gpt2, toy_rows(24, 20), max_length_tokens=128, shots=3, max_new_tokens=508)
    assert {row["row_id"]: row["prompt_ids"] for row in table(SHOTS)} == plain, "no example fits"
    assert {row["shots"] for row in table(SHOTS)} == {0}


def test_examples_are_never_the_question_itself_and_come_from_a_bounded_pool() -> None:
    import pyarrow as pa

    rows = [{**row, "rejected": "", "desirable": "", "tools": "", "history": "[]"} for row in toy_rows(0, 200)]
    rows[0]["desirable"] = "false"
    (pools, again) = (
        choose_pools(pa.Table.from_pylist(part) for part in parts)
        for parts in ([rows], [rows[150:], rows[:30], rows[30:150]])
    )
    assert pools == again
    assert {key: len(pool) for key, pool in pools.items()} == {("qa", "en"): POOL_ROWS, ("qa", "zh"): POOL_ROWS}
    assert all(row["desirable"] != "false" for pool in pools.values() for row in pool)
    question = pools["qa", "zh"][0]
    assert question not in examples_of({**question, "row_id": "other"}, pools, POOL_ROWS)
    assert len(examples_of(question, pools, 5)) == 5
    assert examples_of({**question, "family": "none"}, pools, 5) == []


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_gpt2"])
def test_anchors_are_rendered_as_test_rows(base: str, project: Path, request: pytest.FixtureRequest) -> None:
    write_jsonl(Path(ANCHORS_FILE), [ENGLISH, CHINESE, LABEL])
    report = rendered(request.getfixturevalue(base), toy_rows(24, 20), anchors=ANCHORS_FILE)
    rows = table(ANCHORS)
    digest = file_digest(Path(ANCHORS_FILE))
    counts = {"rows": 3, "left_out": {}, "in_training": 0}
    assert report["anchors"] == {"anchors": ANCHORS_FILE, "digest": digest, **counts}
    assert [(row["use"], row["source"], row["kind"], row["language"]) for row in rows] == [
        ("anchor", "anchors", "qa", "en"), ("anchor", "anchors", "qa", "zh"), ("anchor", "anchors", "classification", "en"),
    ]  # fmt: skip
    assert all(name in row["prompt"] for row, name in zip(rows, ["largest planet", "最大的行星", "ended"], strict=True))
    assert not {row["row_id"] for row in rows} & {row["row_id"] for row in table(TEST)}


def test_training_rows_with_the_question_of_an_anchor_are_a_warning_and_counted(
    project: Path, tiny_gpt2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = toy_rows(24, 20)
    known = [{name: row[name] for name in ("family", "instruction", "input", "output")} for row in rows]
    write_jsonl(Path(ANCHORS_FILE), [*known, ENGLISH])
    report = rendered(tiny_gpt2, rows, anchors=ANCHORS_FILE)
    training = sum(row["split"] == "train" for row in read_dataset().to_pylist())
    assert report["anchors"]["in_training"] == training > 0
    assert f"{training} training rows with the question of an anchor" in capsys.readouterr().err


def test_an_anchor_that_is_too_long_is_left_out_and_counted(project: Path, tiny_gpt2: Path) -> None:
    write_jsonl(Path(ANCHORS_FILE), [ENGLISH, {**CHINESE, "output": "木" * 300}])
    report = rendered(tiny_gpt2, toy_rows(24, 20), max_length_tokens=64, anchors=ANCHORS_FILE)
    assert report["anchors"]["rows"] == 1
    assert report["anchors"]["left_out"] == {"answer_too_long": 1}


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({**ENGLISH, "family": "none"}, "anchors.jsonl line 2: .*`family` is 'none', which has no templates"),
        ({"family": "qa", "input": "谁？"}, "anchors.jsonl line 2: not an anchor .*missing.*output"),
        (CHINESE, "anchors.jsonl line 2: .*the same row as an earlier line"),
    ],
)
def test_a_damaged_anchor_is_an_error_with_its_line(record: dict[str, Any], problem: str, project: Path) -> None:
    with pytest.raises(DataError, match=problem):
        read_anchors(write_jsonl(Path(ANCHORS_FILE), [CHINESE, record]), ["qa"])


def test_anchors_may_be_in_several_files_of_a_folder(project: Path) -> None:
    for name, record in (("en", ENGLISH), ("zh", CHINESE)):
        write_jsonl(Path(f"data/forgetting/anchors/{name}.jsonl"), [record])
    assert [row["source"] for row in read_anchors(Path("data/forgetting/anchors"), ["qa"])] == ["en", "zh"]
    with pytest.raises(ConfigError, match="has no anchors"):
        read_anchors(Path("data/forgetting/none"), ["qa"])
