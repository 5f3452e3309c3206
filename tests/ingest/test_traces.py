"""MLflow traces that people judged become dialogues: the good answers, and those that a person wrote better."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.ingesting import errors, ingest, raw_rows, records, settings
from support.mlflowserver import empty_store
from support.project import params, set_up_project, write_params
from support.toy_traces import CHAT, judge, log_chat

from flows.cli.main import run
from tasks import paths
from tasks.evaluate.judge.preferences import read_preferences
from tasks.feedback.conventions import SOURCE_TYPES
from tasks.ingest.changes.scan import anything_new
from tasks.records.parse import read_raw, to_rows
from tasks.records.shapes import to_fields
from tasks.state.decisions import decided_rows, read_decisions, record_decision
from tasks.state.manifest import read_manifest


def leave_no_address(patch: pytest.MonkeyPatch) -> None:
    """MLflow sets these variables, and would for the tests that follow."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        patch.setenv(name, "")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store(), tmp_path / "traces.db")
    leave_no_address(monkeypatch)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/traces.db")
    mlflow.set_experiment("chat")


def test_good_and_edited_answers_are_collected_once_and_no_others() -> None:
    import mlflow

    good = log_chat([{"role": "user", "content": "你好"}], {"role": "assistant", "content": "您好！"})
    bad = log_chat("What is 2+2?", "5")
    log_chat("Nobody judged this", "x")
    robot = log_chat("A model judged this", "x")
    judge(good, "user_rating", True)
    judge(bad, "user_rating", False)
    judge(robot, "user_rating", True, who="LLM_JUDGE")
    result = ingest(CHAT)
    assert not result.errors
    assert [each["trace_id"] for each in records("chat")] == [good]
    row = to_fields(records("chat")[0], "messages", {})
    assert isinstance(row, dict)
    assert (row["input"], row["output"]) == ("你好", "您好！")
    assert not anything_new(settings(CHAT))
    assert not ingest(CHAT).new

    mlflow.log_expectation(trace_id=bad, name="better", value="4")  # an older trace, judged later
    assert anything_new(settings(CHAT))
    assert ingest(CHAT).sources[0].new_rows == 1
    turns = [{"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "4"}]
    assert records("chat")[1] == {"trace_id": bad, "messages": turns}
    judge(good, "user_rating", False)  # what was collected is kept in raw
    ingest(CHAT)
    assert len(raw_rows("chat")) == 2
    assert errors("chat") == []


def dropped() -> set[str]:
    """The answers whose rows are dropped by decision."""
    rows = [row for batch in read_manifest() for row in to_rows(read_raw(batch), batch).to_pylist()]
    return {row["output"] for row in rows if row["row_id"] in decided_rows(read_decisions(), "drop")}


def correct(trace: str, answer: str) -> None:
    import mlflow

    mlflow.log_expectation(trace_id=trace, name="better", value=answer)


def test_an_answer_that_is_corrected_after_it_was_collected_takes_the_older_one_out() -> None:
    trace, other = log_chat("What is 2+2?", "5"), log_chat("What is 3+3?", "6")
    judge(trace, "user_rating", True)
    judge(other, "user_rating", True)
    ingest(CHAT)
    assert dropped() == set()
    correct(trace, "4")
    assert "chat: 1 row dropped: corrected later in the source" in ingest(CHAT).problems
    assert dropped() == {"5"}
    assert {(each.what, each.who) for each in read_decisions()} == {("drop", "source chat")}
    judge(other, "comment", "nice")  # it is read again, and nothing more is decided
    ingest(CHAT)
    assert len(read_decisions()) == 1

    correct(trace, "5")  # back to the first answer, which raw holds already
    assert "chat: 1 row no longer dropped: current again in the source" in ingest(CHAT).problems
    assert dropped() == {"4"}
    assert "release" not in {each.what for each in read_decisions()}, "the contract still judges the row"


def test_a_crash_before_the_decision_leaves_it_to_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = log_chat("What is 2+2?", "5")
    judge(trace, "user_rating", True)
    ingest(CHAT)
    correct(trace, "4")
    with monkeypatch.context() as broken:
        broken.setattr("tasks.ingest.connectors.corrections.record_decisions", lambda *of, **by: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest(CHAT)
    ingest(CHAT)
    assert dropped() == {"5"}


def test_a_trace_that_is_rated_down_later_takes_its_row_out() -> None:
    trace = log_chat("What is 2+2?", "5")
    judge(trace, "user_rating", True)
    ingest(CHAT)
    judge(trace, "user_rating", False)
    assert "chat: 1 row dropped: withdrawn by the source" in ingest(CHAT).problems
    assert dropped() == {"5"}


def test_a_row_of_another_trace_or_one_that_a_user_restored_is_not_dropped() -> None:
    first, second = log_chat("What is 2+2?", "four"), log_chat("What is 2+2?", "four")
    judge(first, "user_rating", True)
    judge(second, "user_rating", True)
    ingest(CHAT)
    correct(first, "4")
    ingest(CHAT)
    assert dropped() == set()
    judge(second, "user_rating", False)
    ingest(CHAT)
    assert dropped() == {"four"}
    record_decision("release", read_decisions()[-1].which, "four is right too")
    judge(first, "comment", "hm")
    ingest(CHAT)
    assert dropped() == set()


def test_a_rating_may_be_a_number_with_a_bound() -> None:
    for stars in (2, 4, 5):
        judge(log_chat(f"question {stars}", f"answer {stars}"), "stars", stars)
    numbers = {key: value for key, value in CHAT.items() if key != "answer"} | {"rating": "stars", "rating_min": 4}
    ingest(numbers)
    assert [each["messages"][-1]["content"] for each in records("chat")] == ["answer 4", "answer 5"]


def test_a_trace_of_no_known_form_is_kept_and_refused_later() -> None:
    judge(log_chat("plain", "good"), "user_rating", True)
    judge(log_chat({"a": 1, "b": 2}, {"choices": [{"message": {"content": "c"}}]}), "user_rating", True)
    ingest(CHAT)
    first, second = records("chat")
    assert first["messages"][-1]["content"] == "good"
    assert second["request"] == {"messages": {"a": 1, "b": 2}}
    assert to_fields(second, "messages", {}).code == "missing_field"  # type: ignore[union-attr]


def test_a_file_of_another_project_is_read_and_left_as_it_is() -> None:
    import mlflow

    place = Path("other/mlflow/artifacts").resolve().as_posix()
    mlflow.create_experiment("theirs", artifact_location=place)
    before = Path("traces.db").read_bytes()
    assert ingest(CHAT | {"experiment": "theirs"}).errors == []
    assert Path("traces.db").read_bytes() == before


def test_a_file_of_an_older_mlflow_is_neither_upgraded_nor_read() -> None:
    judge(log_chat("plain", "good"), "user_rating", True)
    for path, revision, message in [
        ("older.db", "27a6a02d2cf1", "schema 27a6a02d2cf1"),
        ("empty.db", None, "is no MLflow file"),
    ]:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)" if revision else "CREATE TABLE a (b)")
            if revision:
                database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        before = Path(path).read_bytes()
        (error,) = ingest(CHAT | {"tracking_uri": f"sqlite:///{path}"}).errors
        assert message in str(error)
        assert Path(path).read_bytes() == before
    assert sorted(each.name for each in Path().glob("*.db*")) == ["empty.db", "older.db", "traces.db"]


def test_a_missing_file_is_reported_and_not_created() -> None:
    (error,) = ingest(CHAT | {"tracking_uri": "sqlite:///tracse.db"}).errors
    assert "tracse.db: no such file" in str(error)
    assert not Path("tracse.db").exists()


def test_a_missing_experiment_or_server_is_reported() -> None:
    (error,) = ingest(CHAT | {"experiment": "nothing"}).errors
    assert "has no experiment nothing" in str(error)
    assert "There are: " in str(error)
    (error,) = ingest(CHAT | {"tracking_uri": "http://127.0.0.1:9"}).errors
    assert "source `chat`, http://127.0.0.1:9: the registry cannot be reached" in str(error)


def test_feedback_of_people_in_mlflow_becomes_preferences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    write_params(Path(), params("base", []))
    uri = f"sqlite:///{tmp_path}/traces.db"
    pair = {"question": "谁？ Who?", "answer_a": "Ann", "answer_b": "Bob", "family": "qa"}
    first, second, robot, program = (log_chat({**pair, "target": name}, "shown") for name in "abcd")
    judge(first, "preferred", "A")
    judge(second, "preferred", "nobody knows")
    judge(robot, "preferred", "A", who="LLM_JUDGE")
    judge(program, "preferred", "A", who="CODE")
    assert run(["judge", "import", "chat", "--tracking-uri", uri, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": "data/judges/preferences.jsonl", "imported": 1, "changed": 1, "left_out": 1,
    }  # fmt: skip
    (preference,) = read_preferences(paths.JUDGES / "preferences.jsonl") or []
    assert (preference.question, preference.preferred, preference.family, preference.target, preference.trace) == (
        "谁？ Who?", "A", "qa", "a", first
    )  # fmt: skip
    judge(first, "preferred", "tie")
    assert run(["judge", "import", "chat", "--tracking-uri", uri]) == 0
    assert "1 preferences, 1 of them new or changed" in capsys.readouterr().out
    assert [each.preferred for each in read_preferences(paths.JUDGES / "preferences.jsonl") or []] == ["tie"]
    assert run(["judge", "import", "other", "--tracking-uri", uri]) == 1


def test_the_sources_of_feedback_are_types_of_mlflow() -> None:
    from mlflow.entities import AssessmentSource

    for source in SOURCE_TYPES.values():
        assert AssessmentSource(source, "x").source_type == source
