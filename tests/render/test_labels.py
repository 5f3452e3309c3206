"""Form `labels`: texts with labels, for an encoder or a decoder; dropped rows are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.classes_plugin import classes_plugin
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part
from transformers import AutoTokenizer

from tasks import paths
from tasks.base.heads import text_ids
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.dataset.rendered import TEMPLATES, TEST, read_rendered
from tasks.records.row import row_id_of
from tasks.render.stage import run as render
from tasks.runtime.files import read_json

LABELS = paths.RENDERED / "labels"


def rendered_rows(
    project: Path, base: Path, rows: list[dict[str, Any]], plugins: tuple[str, ...] = (), **settings: Any
) -> dict[str, Any]:
    """Renders rows for a head of labels; returns the report."""
    sections = params(base, [], finetune={"objective": "classify"}, render=settings)
    write_params(project, sections | {"plugins": list(plugins)})
    config = load_config()
    begin_round(config)
    write_part(rows)
    curate(config)
    render(config)
    report: dict[str, Any] = read_json(paths.RENDER_REPORT)
    return report


def changed(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    new = {**row, **fields}
    return {**new, "row_id": row_id_of(new)}


def labels(split: str) -> list[str]:
    names = read_json(LABELS / "labels.json")
    return [names[place] for place in np.load(LABELS / split / "labels.npy")]


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
def test_a_text_has_the_special_tokens_of_its_model_around_it(base: str, project: Path, request: Any) -> None:
    folder = request.getfixturevalue(base)
    rows = toy_rows(questions=0)
    report = rendered_rows(project, folder, rows)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts, outputs = ({row["row_id"]: row[name] for row in rows} for name in ("input", "output"))
    train = read_rendered("train", "labels")
    assert len(train) == len(train.packs) == len(labels("train")) == report["splits"]["train"]["examples"] > 10
    for place, (row_id, label) in enumerate(zip(train.ids.tolist(), labels("train"), strict=True)):
        ids = train.input_ids[train.examples[place] : train.examples[place + 1]].tolist()
        written = tokenizer.decode(ids)
        text = texts[row_id.decode()]
        assert written.replace(" [SEP]", "[SEP]").replace("[CLS] ", "[CLS]") == (
            f"[CLS]{text}[SEP]" if base == "tiny_bert" else f"{text}<|endoftext|>"
        )
        assert label == outputs[row_id.decode()]
    assert read_json(LABELS / "labels.json") == ["business", "sport", "tech"]
    assert read_json(TEMPLATES)["form"] == "labels"


def test_test_rows_hold_the_text_and_the_label_without_a_template(project: Path, tiny_bert: Path) -> None:
    rows = {row["row_id"]: row for row in toy_rows(questions=0)}
    rendered_rows(project, tiny_bert, list(rows.values()))
    table = pq.read_table(TEST).to_pylist()
    assert table
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    for row in table:
        assert (row["prompt"], row["target"]) == (rows[row["row_id"]]["input"], rows[row["row_id"]]["output"])
        assert row["prompt_ids"] == tokenizer(row["prompt"])["input_ids"]
        assert (row["kind"], row["before"], row["after"]) == ("classification", "", "")


def test_rows_that_are_no_classification_are_counted(project: Path, tiny_bert: Path) -> None:
    report = rendered_rows(project, tiny_bert, toy_rows(questions=20))
    assert report["dropped"]["not_a_classification"] >= 15
    assert set(pq.read_table(TEST)["family"].to_pylist()) == {"topic"}


def test_a_family_whose_metric_a_plugin_adds_is_a_classification_too(project: Path, tiny_bert: Path) -> None:
    with classes_plugin("topic") as plugin:
        report = rendered_rows(project, tiny_bert, toy_rows(questions=20), plugins=(plugin,))
    assert set(pq.read_table(TEST)["kind"].to_pylist()) == {plugin}
    assert read_json(LABELS / "labels.json") == ["business", "sport", "tech"]
    assert report["dropped"]["not_a_classification"] >= 15


def test_instruction_and_history_are_part_of_the_text(project: Path, tiny_bert: Path) -> None:
    rows = toy_rows(questions=0)
    history = '[["user","你好 there"],["assistant","Hello."]]'
    rows = [changed(row, instruction="Which section?", history=history) for row in rows]
    rendered_rows(project, tiny_bert, rows)
    shown = pq.read_table(TEST)["prompt"].to_pylist()
    assert shown
    assert all(text.startswith("你好 there\n\nHello.\n\nWhich section?\n\nThe ") for text in shown)


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_gpt2"])
def test_a_long_text_loses_its_end_and_keeps_its_marks(base: str, project: Path, request: Any) -> None:
    rows = [changed(row, input=row["input"] + " 还有很多话 and more words" * 40) for row in toy_rows(questions=0)]
    report = rendered_rows(project, request.getfixturevalue(base), rows, max_length_tokens=40)
    train = read_rendered("train", "labels")
    assert set(np.diff(train.examples).tolist()) == {40}
    assert report["cut"] == sum(report["splits"][split]["examples"] for split in ("train", "valid", "test"))
    ends = train.input_ids[train.examples[1:] - 1]
    assert len(set(ends.tolist())) == 1


def test_a_text_is_truncated_to_the_tokenizers_maximum_length(project: Path, tiny_bert: Path) -> None:
    rows = [changed(row, input=row["input"] + " more words" * 200) for row in toy_rows(questions=0)]
    rendered_rows(project, tiny_bert, rows, max_length_tokens=250)
    assert set(np.diff(read_rendered("train", "labels").examples).tolist()) == {128}


def test_a_label_that_training_lacks_is_left_out_of_validation_and_stays_in_the_test(
    project: Path, tiny_bert: Path
) -> None:
    rows = toy_rows(120, 0)
    rendered_rows(project, tiny_bert, rows)
    held = {row_id.decode() for row_id in read_rendered("valid", "labels").ids[:2].tolist()}
    held |= set(pq.read_table(TEST)["row_id"].to_pylist()[:2])
    texts = {row["input"] for row in rows if row["row_id"] in held}
    rows = [changed(row, output="气象") if row["input"] in texts else row for row in rows]
    report = rendered_rows(project, tiny_bert, rows)
    assert report["dropped"]["unknown_label"] == 2
    assert read_json(LABELS / "labels.json") == ["business", "sport", "tech"]
    assert pq.read_table(TEST)["target"].to_pylist().count("气象") == 2


def test_the_commonest_label_is_a_familys_own(project: Path, tiny_bert: Path) -> None:
    rows = toy_rows(90, 0)
    rows = [changed(row, family="sentiment" if row["output"] == "sport" else "topic") for row in rows]
    rows = [
        changed(row, output="积极" if place % 4 == 0 else "消极") if row["family"] == "sentiment" else row
        for place, row in enumerate(rows)
    ]
    rendered_rows(project, tiny_bert, rows)
    commonest = read_json(LABELS / "commonest.json")
    assert commonest["sentiment"] == "消极"
    assert commonest["topic"] in {"business", "tech"}
    assert read_json(LABELS / "labels.json") == ["business", "tech", "消极", "积极"]


def test_a_text_of_special_tokens_alone_is_still_a_text(tiny_gpt2: Path, tiny_bert: Path) -> None:
    for folder in (tiny_gpt2, tiny_bert):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert text_ids(tokenizer, [], 16) == []
        ((ids, was_cut),) = text_ids(tokenizer, ["体育"], 16)
        assert len(ids) > 1
        assert not was_cut


def test_labels_that_differ_in_spelling_only_are_one_class_as_in_evaluation(project: Path, tiny_bert: Path) -> None:
    """Two classes of the head were one in evaluation, which took either for right."""
    spelled = {"sport": ["Sport", "sport", "sport", "ｓｐｏｒｔ．"]}
    rows = [
        changed(row, output=spelled.get(row["output"], [row["output"]] * 4)[place % 4])
        for place, row in enumerate(toy_rows(120, 0))
    ]
    outputs = {row["row_id"]: row["output"] for row in rows}
    report = rendered_rows(project, tiny_bert, rows)
    assert read_json(LABELS / "labels.json") == ["business", "sport", "tech"]
    assert report["dropped"].get("unknown_label", 0) == 0
    train = read_rendered("train", "labels")
    written = [outputs[row_id.decode()] for row_id in train.ids.tolist()]
    assert {"Sport", "sport", "ｓｐｏｒｔ．"} <= set(written)
    assert [label.casefold() for label in labels("train")] == [
        "sport" if label in spelled["sport"] else label for label in written
    ]
    assert set(read_json(LABELS / "commonest.json").values()) <= {"business", "sport", "tech"}
