"""Room `lineage`: where a row came from and what became of it, and how two versions differ. With DVC for real."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dataworld import SOURCES, collect
from support.project import params, set_up_project, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import qa_records, topic_records, write_jsonl

from flows.cli import inspect, main
from tasks import paths
from tasks.errors import DataError
from tasks.lineage import row_history, version_data
from tasks.lineage.diff import difference
from tasks.lineage.select_rows import parse_condition, select_rows
from tasks.runtime.files import write_parquet
from tasks.state.decisions import record_decision

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two commits with data; the second has a batch more, and another answer to a question of the first."""
    root = tmp_path_factory.mktemp("lineage") / "project"
    with pytest.MonkeyPatch.context() as patch:
        set_up_project(root)
        patch.chdir(root)
        make_tiny_gpt2(root / "base")
        write_jsonl(root / "inbox/topic.jsonl", topic_records(40))
        write_jsonl(root / "inbox/qa.jsonl", qa_records(20))
        write_params(root, params("base", SOURCES))
        commits = [collect("validate", "curate")]
        changed = {**qa_records(20)[0], "output": "Nobody remembers its name any more."}
        write_jsonl(
            root / "inbox/qa-2.jsonl",
            [changed, {"instruction": "第99个城市叫什么？", "input": "", "output": "不知道。"}],
        )
        commits.append(collect("validate", "curate"))
    return root, commits


@pytest.fixture
def two_versions(template: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template that the test works in."""
    root, commits = template
    place = tmp_path / "project"
    shutil.copytree(root, place, symlinks=True)
    monkeypatch.chdir(place)
    for module in (version_data, row_history):
        monkeypatch.setattr(module, "registered_versions", lambda model: [1, 2])
    monkeypatch.setattr(version_data, "commit_of", lambda model, version: commits[version - 1])
    return place


def test_a_row_tells_where_it_came_from_and_which_versions_hold_it(two_versions: Path) -> None:
    (row_id,) = select_rows([], ["input=", "instruction=第99个城市叫什么？"])
    result = row_history.row_history(row_id[:8], "tiny")
    assert result.row_id == row_id
    (copy,) = result.copies
    assert (copy.file, copy.line, copy.source, copy.state) == ("inbox/qa-2.jsonl", 2, "qa", "kept")
    assert result.versions == {2: copy.split}
    assert result.content["output"] == "不知道。"


def test_the_audit_of_a_row_checks_its_batch_and_names_the_versions_by_use(two_versions: Path, strop: Any) -> None:
    (row_id,) = select_rows([], ["input=", "instruction=第99个城市叫什么？"])
    code, out, _ = strop("audit", "--row", row_id[:10])
    out = " ".join(out.split())  # a line is as long as the terminal is wide
    split = row_history.row_history(row_id, "tiny").versions[2]
    used = {"train": "trained on by: v2", "valid": "validated on by: v2", "test": "tested on by: v2"}[split]
    assert (code, used in out, "inbox/qa-2.jsonl line 2" in out, "as in the manifest" in out) == (0, True, True, True)
    facts = json.loads(strop("audit", "--row", row_id, "--json")[1])
    (copy,) = facts["copies"]
    uses = {"train": "trained", "valid": "validated", "test": "tested"}
    assert (facts["ok"], facts["uses"][uses[split]]) == (True, [2])
    path = paths.RAW / "qa" / f"{copy['batch']}.parquet"
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(table, path, compression="none")  # the same rows in other bytes
    for walk in ([], ["--deep"]):
        code, out, _ = strop("audit", "--row", row_id, "--json", *walk)
        assert (code, json.loads(out)["links"][0]["detail"]) == (1, f"{path} has changed")
    path.write_bytes(b"no Parquet")
    for row, words in ((row_id, "a raw batch cannot be read"), ("ffffffff", "no row's id begins so")):
        code, out, err = strop("audit", "--row", row)
        assert (code, out, err.count("\n"), words in err) == (1, "", 1, True)


def test_a_version_that_was_trained_on_from_one_that_saw_a_row_has_it_in_its_weights(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch, strop: Any
) -> None:
    (row_id,) = select_rows([], ["instruction=第99个城市叫什么？"])
    second = version_data.commit_of("tiny", 2)
    first = version_data.commit_of("tiny", 1)
    monkeypatch.setattr(row_history, "registered_versions", lambda model: [1, 2, 3, 4])
    monkeypatch.setattr(version_data, "registered_versions", lambda model: [1, 2, 3, 4])
    monkeypatch.setattr(version_data, "commit_of", lambda model, version: second if version == 2 else first)
    monkeypatch.setattr(row_history, "ancestors_of", lambda model, version: {3: [2], 4: [3]}.get(version, []))
    split = row_history.row_history(row_id, "tiny").versions[2]
    expected = {2: split, 3: row_history.INHERITED, 4: row_history.INHERITED} if split == "train" else {2: split}
    assert row_history.row_history(row_id, "tiny").versions == expected
    assert split == "train", "the test would show nothing"
    _, out, _ = strop("rows", "why", row_id)
    assert "trained on by: v2, v3, v4" in out


def test_two_versions_differ_by_what_came_between_them(two_versions: Path) -> None:
    result = difference("tiny", "v1", "2")
    assert (result.before, result.after) == (60, 62)
    assert (result.added.rows, result.removed.rows, result.moved.rows, result.edited.rows) == (2, 0, 0, 0)
    assert result.added.by == {("qa", "qa"): 2}
    assert result.other_answer.rows == 1
    assert result.other_answer.examples[0]["output_before"] == qa_records(20)[0]["output"]
    back = difference("tiny", "v2", "v1")
    assert (back.added.rows, back.removed.rows) == (0, 2)


def test_batches_that_came_between_two_versions_are_named(two_versions: Path) -> None:
    result = difference("tiny", "v1", "2", find_other_answers=False)
    (added,) = set(version_data.parts_of("tiny", "2")) - set(version_data.parts_of("tiny", "1"))
    assert (result.batches_added, result.batches_removed, result.other_answer.rows) == ([added], [], 0)
    assert difference("tiny", "v2", "v1").batches_removed == [added]


def test_a_forgotten_row_is_gone_from_the_next_version_and_its_models_are_named(
    two_versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row_id,) = select_rows([], ["instruction=第99个城市叫什么？"])
    assert main.run(["rows", "forget", row_id[:10], "--why", "asked to", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": [row_id],
        "made_from_them": [],
        "versions": [2],
        "is_recorded": True,
    }
    collect("validate", "curate")
    result = difference("tiny", "v2", "now")
    assert [row["row_id"] for row in result.removed.examples] == [row_id]
    assert row_history.row_history(row_id, "tiny").decisions[0].what == "forget"
    assert main.run(["rows", "why", row_id]) == 0
    assert "forget by" in capsys.readouterr().out


def test_history_says_which_versions_were_trained_on_rows_that_are_forgotten(
    two_versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.dataset.read import read_parts

    trained = [row for _, part in read_parts() for row in part.to_pylist() if row["split"] == "train"]
    for row in trained[:2]:
        record_decision("forget", row["row_id"], "asked to")
    assert inspect._forgotten("tiny") == {1: 2, 2: 2}


def test_a_refused_row_tells_its_reason(two_versions: Path) -> None:
    write_jsonl(two_versions / "inbox/qa-3.jsonl", [{"instruction": "Say nothing, please", "input": "", "output": " "}])
    write_params(two_versions, params("base", SOURCES, validate={"max_refused_share": 1.0}))
    collect("validate", "curate")
    (row_id,) = select_rows([], ["instruction=Say nothing, please"])
    (copy,) = row_history.row_history(row_id, "tiny").copies
    assert (copy.state, copy.room, copy.reason) == ("refused", "validate", "empty_output")


def test_an_excluded_batch_shows_at_its_rows_and_in_the_difference(two_versions: Path) -> None:
    (row_id,) = select_rows([], ["instruction=第99个城市叫什么？"])
    batch = row_history.row_history(row_id, "tiny").copies[0].batch
    record_decision("exclude", batch, "a bad export")
    collect("validate", "curate")
    assert difference("tiny", "2", "now").removed.rows == 2
    assert row_history.row_history(row_id, "tiny").copies[0].state == "excluded"


@pytest.mark.parametrize("command", [["rows", "why", "ffffffff"], ["rows", "why", "ab"], ["data", "diff", "v9"]])
def test_a_missing_row_or_version_is_reported_in_one_line(
    two_versions: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(command) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["nonsense", "nothing=1", "input~("])
def test_an_invalid_condition_is_reported(text: str) -> None:
    with pytest.raises(DataError, match=r"--where"):
        parse_condition(text)


def test_a_condition_finds_chinese_and_english() -> None:
    assert parse_condition("input~李\\s*雷")({"input": "我是李 雷。"})
    assert not parse_condition("input~李\\s*雷")({"input": "I am Li Lei."})
    assert parse_condition("source=support")({"source": "support"})


def test_drift_is_reported_against_another_version_with_a_plot(
    two_versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["data", "drift", "v1", "now", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == [60, 62]
    assert {each["what"] for each in facts["drift"] if each["family"] == "topic"} >= {"label", "word", "language"}
    assert set(facts["shares"]) == {"before", "new batches"}
    assert (two_versions / "data/reports/drift/drift.svg").exists()
    assert main.run(["data", "drift"]) == 1
    assert "no version serves yet" in capsys.readouterr().err


def test_a_version_that_left_a_row_out_was_not_trained_on_it(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch, strop: Any
) -> None:
    """`rows why` had every row of the training side trained on, also one over a cap, or too long."""
    from tasks.vcs.dvc_outputs import StoredFile

    (row_id,) = select_rows([], ["instruction=第99个城市叫什么？"])
    assert row_history.row_history(row_id, "tiny").versions == {2: "train"}, "the test would show nothing"
    columns = {"row_id": [row_id], "split": ["train"], "reason": ["balance"], "detail": ["all: weight 0.5"]}
    write_parquet(two_versions / "left_out.parquet", pa.table(columns))
    real = version_data.stored_files
    stored = StoredFile("left_out.parquet", "", two_versions / "left_out.parquet")
    monkeypatch.setattr(
        version_data,
        "stored_files",
        lambda at, path, **named: [stored] if path == paths.RENDERED else real(at, path, **named),
    )
    assert row_history.row_history(row_id, "tiny").versions == {2: row_history.LEFT_OUT}
    _, out, _ = strop("rows", "why", row_id)
    assert "trained on by: no version · held out by: no version · left out by: v2" in " ".join(out.split())
