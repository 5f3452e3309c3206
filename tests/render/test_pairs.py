"""Forms `pairs`, `ranked`, `judged` and `prompts`: the tokens are those of form `answers`, and a pair has one prompt."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.project import begin_round, params, write_params
from support.rawtext import text_rows
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.dataset import read
from tasks.dataset.forms import FORMS
from tasks.dataset.rendered import TEST, read_rendered, read_rows
from tasks.errors import DataError
from tasks.records.row import row_id_of
from tasks.render import row_store as rows
from tasks.render import stage
from tasks.render.stage import run as render
from tasks.runtime.files import file_digest, read_json
from tasks.state.training_start import Start

Row = dict[str, Any]
WORSE = "That I would rather not say."


def rows_with_pairs() -> list[Row]:
    """Sixty questions: twenty with a worse answer, twenty judged good or bad, twenty plain."""
    rows = toy_rows(topics=0, questions=60)
    for number, row in enumerate(rows):
        if number % 3 == 0:
            row["rejected"] = WORSE
        if number % 3 == 1:
            row["desirable"] = "true" if number % 2 else "false"
        row["row_id"] = row_id_of(row)
    return rows


def rendered_for(project: Path, base: Path, objective: str, rows: list[Row], **settings: Any) -> dict[str, Any]:
    """Renders the rows for a training; the report."""
    batch = {"micro_batch_rows": 2} if objective == "kto" else {}
    write_params(project, params(base, [], finetune={"objective": objective, **batch}, render=settings))
    config = load_config()
    begin_round(config)
    write_part(rows)
    for room in (curate, render):
        room(config)
    report: dict[str, Any] = read_json(paths.RENDER_REPORT)
    return report


def answers_by_row() -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and answer of each example of form `answers`."""
    result = {}
    for split in ("train", "valid"):
        rendered = read_rendered(split)
        for place, (start, end) in enumerate(itertools.pairwise(rendered.examples)):
            ids, mask = rendered.input_ids[start:end].tolist(), rendered.loss_mask[start:end]
            prompt = int(mask.argmax())
            result[rendered.ids[place].decode()] = (ids[:prompt], ids[prompt:])
    return result


def read_all(form: str) -> list[Row]:
    return [row for split in ("train", "valid") for row in read_rows(split, form).to_pylist()]


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_gpt2"])
def test_what_preferences_are_taught_with_is_what_answers_are_taught_with(
    base: str, project: Path, request: Any
) -> None:
    folder, rows = request.getfixturevalue(base), rows_with_pairs()
    rendered_for(project, folder, "sft", rows)
    known = answers_by_row()
    rendered_for(project, folder, "dpo", rows)
    end = load_tokenizer(folder).eos_token_id
    pairs = read_all("pairs")
    assert len(pairs) > 10
    for row in pairs:
        assert (row["prompt_ids"], row["chosen_ids"]) == known[row["row_id"]]
        assert end in row["rejected_ids"][-2:]  # chatml ends a turn, and a line
        assert WORSE in load_tokenizer(folder).decode(row["rejected_ids"])
    rendered_for(project, folder, "kto", rows)
    judged = read_all("judged")
    for row in judged:
        if row["desirable"]:
            assert (row["prompt_ids"], row["answer_ids"]) == known[row["row_id"]]
        else:
            assert row["row_id"] not in known  # nobody learns to answer as it does
    assert {row["desirable"] for row in judged} == {True, False}
    rendered_for(project, folder, "grpo", rows)
    for row in read_all("prompts"):
        assert row["prompt_ids"] == known[row["row_id"]][0]


@pytest.mark.parametrize("form", list(FORMS))
def test_several_processes_write_the_bytes_of_one(
    form: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "ROWS_AT_ONCE", 16)
    monkeypatch.setattr(rows, "PORTION_ROWS", 8)
    write_params(project, params(tiny_llama, [], render={"max_length_tokens": 120}))
    begin_round(load_config())
    monkeypatch.setattr(stage, "read_start", lambda: Start(forms=tuple(dict.fromkeys(("answers", form)))))
    write_part([*toy_rows(topics=40, questions=0), *rows_with_pairs()])
    write_part(text_rows(60), "000002-t1.parquet")
    curate(load_config())
    written = []
    for processes in (1, 3):
        write_params(project, params(tiny_llama, [], render={"max_length_tokens": 120, "processes": processes}))
        render(load_config())
        files = [*sorted(paths.RENDERED.rglob("*.*")), paths.RENDER_REPORT]
        written.append({str(path): file_digest(path) for path in files})
    assert written[0] == written[1]
    assert read_json(paths.RENDER_REPORT)["splits"]["train"]["examples"] > 8


def test_a_long_worse_answer_cuts_the_prompt_of_both(project: Path, tiny_llama: Path) -> None:
    rows = rows_with_pairs()
    for row in rows:
        if "rejected" in row:
            row |= {"input": " ".join(f"word{n}" for n in range(30)), "rejected": WORSE * 3}
            row["row_id"] = row_id_of(row)
    report = rendered_for(project, tiny_llama, "dpo", rows, max_length_tokens=160)
    pairs = read_all("pairs")
    assert pairs
    assert report["cut"]
    for row in pairs:
        assert len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= 160
        assert len(row["rejected_ids"]) > len(row["chosen_ids"])


def test_a_pair_without_a_preference_or_without_room_is_dropped_and_counted_once(
    project: Path, tiny_llama: Path
) -> None:
    rows = rows_with_pairs()
    paired = [row for row in rows if "rejected" in row]
    paired[0]["rejected"], paired[1]["rejected"] = paired[0]["output"], WORSE * 20
    for row in paired[:2]:
        row["row_id"] = row_id_of(row)
    report = rendered_for(project, tiny_llama, "reward", rows)
    dropped = report["dropped"]
    assert dropped == {"same_answers": 1, "answer_too_long": 1}
    kept = {row["row_id"] for row in read_all("ranked")} | {row["row_id"] for row in pq.read_table(TEST).to_pylist()}
    assert len(kept) == len(paired) - 2


def test_a_model_that_answers_is_tested_by_answers_and_one_that_scores_by_pairs(
    project: Path, tiny_llama: Path
) -> None:
    rows = rows_with_pairs()
    rendered_for(project, tiny_llama, "sft", rows)
    by_answers = pq.read_table(TEST)
    for objective in ("dpo", "orpo", "kto", "grpo"):
        rendered_for(project, tiny_llama, objective, rows)
        assert pq.read_table(TEST).equals(by_answers)
    rendered_for(project, tiny_llama, "reward", rows)
    pairs = pq.read_table(TEST).to_pylist()
    requests = {row["row_id"]: row["prompt_ids"] for row in by_answers.to_pylist()}
    assert pairs
    for row in pairs:
        assert row["kind"] == "preference"
        assert row["prompt_ids"] == requests[row["row_id"]]
        assert row["chosen_ids"] != row["rejected_ids"]
        for name in ("chosen_ids", "rejected_ids"):
            assert row[name][: len(row["prompt_ids"])] == row["prompt_ids"]


def test_prompts_carry_what_their_answers_are_scored_against(project: Path, tiny_llama: Path) -> None:
    rows = toy_rows(topics=30, questions=10)
    rendered_for(project, tiny_llama, "grpo", rows)
    output_of = {row["row_id"]: row["output"] for row in rows}
    prompts = read_all("prompts")
    assert {row["kind"] for row in prompts} == {"classification", "qa"}
    for row in prompts:
        assert output_of[row["row_id"]] in row["target"]
        assert row["before"] + row["after"] == "" or row["kind"] == "classification"


@pytest.mark.parametrize(("objective", "form"), [("dpo", "pairs"), ("kto", "judged")])
def test_rows_without_a_preference_are_reported_in_one_line(
    objective: str, form: str, project: Path, tiny_llama: Path
) -> None:
    with pytest.raises(DataError, match=f"no training row can be rendered in the form {form}"):
        rendered_for(project, tiny_llama, objective, toy_rows())
    before = {"objective": "dpo", "before": [{"objective": "reward"}]}
    write_params(project, params(tiny_llama, [], finetune=before))
    begin_round(load_config())
    with pytest.raises(DataError, match="no training row can be rendered in the form ranked"):
        render(load_config())


def test_tokens_are_mapped_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pa.table({"row_id": [str(i) for i in range(9000)], "prompt_ids": [list(range(300))] * 9000})
    folder = paths.RENDERED / "prompts"
    folder.mkdir(parents=True)
    pq.write_table(rows, folder / "train.parquet")
    before = pa.total_allocated_bytes()
    result = read_rows("train", "prompts")
    assert pa.total_allocated_bytes() - before < rows.nbytes / 10
    assert result.equals(rows)
    assert not [*paths.CACHE.glob("rows-*")]
