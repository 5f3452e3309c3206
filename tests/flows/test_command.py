"""The command `strop`: what it prints, its exit codes, and that expected errors cause no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.mlflowserver import give_empty_registry
from support.project import REPOSITORY, params, write_params
from support.toy_rows import topic_records, toy_rows, write_jsonl, write_part

from tasks import paths
from tasks.records.row import CURATED_SCHEMA, QUARANTINE_SCHEMA
from tasks.runtime.files import write_json, write_parquet
from tasks.state.manifest import Batch, write_manifest

SOURCE = {"name": "news", "path": "inbox/*.jsonl", "shape": "text_label", "family": "topic"}


@pytest.fixture
def configured(project: Path, tmp_path: Path) -> Path:
    write_params(project, params(tmp_path / "no-model", [SOURCE]))
    return project


def test_help_lists_every_command_and_starts_at_once() -> None:
    began = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert time.monotonic() - began < 10  # a busy machine; alone it is half a second
    for command in (
        "run", "demo", "schedule", "status", "history", "audit", "config", "generate", "chat", "promote", "rollback",
        "quarantine", "data", "doctor",
    ):  # fmt: skip
        assert f" {command} " in shown


def test_a_paragraph_of_a_commands_help_is_one_line_that_the_terminal_breaks() -> None:
    from flows.cli.main import app

    groups = [app, *(group.typer_instance for group in app.registered_groups if group.typer_instance)]
    texts = [command.help or "" for group in groups for command in group.registered_commands]
    assert all(texts)
    assert [text for text in texts if "\n" in text.replace("\n\n", "")] == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli import main; main.run(['--help']);"
        "heavy = {'torch', 'mlflow', 'prefect', 'dvc', 'transformers', 'pandas', 'pyarrow', 'great_expectations'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rows_of_the_dataset_are_read_without_what_brings_pandas(project: Path) -> None:
    """`strop status` reads three of them: pyarrow.dataset would take half a second."""
    rows = toy_rows(2, 2)
    write_part(rows)
    made = [{"index": row["index"], "row_id": row["row_id"], "split": "test", "group": ""} for row in rows]
    write_parquet(Path("data/curated/000001-b1.parquet"), pa.Table.from_pylist(made, CURATED_SCHEMA))
    code = (
        "import sys, tasks.runtime.loopback; from tasks.dataset.read import read_dataset; assert read_dataset().num_rows == 4;"
        "sys.exit(', '.join({'pyarrow.dataset', 'urllib.request'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [paths.METRICS, paths.VERDICT], ids=str)
def test_a_report_of_another_kind_is_one_line_in_status(configured: Path, strop: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[1, 2]")
    code, out, err = strop("status")
    assert (code, out) == (1, "")
    assert err == f"strop: {path}: damaged (not a mapping). Remove it, then run again\n"


def test_a_damaged_clean_digest_is_ignored(project: Path) -> None:
    from tasks.vcs.dvc_fast_status import is_unchanged

    paths.CLEAN.parent.mkdir(parents=True, exist_ok=True)
    paths.CLEAN.write_bytes(b"\xff\xfe")
    assert not is_unchanged()


def test_dvcs_files_are_parsed_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python a dvc.lock takes a tenth of a second, and `strop status` reads it twice."""
    from ruamel.yaml.scanner import Scanner

    from tasks.vcs.dvc_files import parse_yaml

    monkeypatch.setattr(Scanner, "fetch_more_tokens", None)
    assert parse_yaml(b"stages: {a: {md5: 0123456e7, size: 12}}") == {"stages": {"a": {"md5": 123456e7, "size": 12}}}
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):  # the parser itself would crash
        parse_yaml(b"stages: " + b"[" * 100_000)


def test_a_stage_started_by_another_python_reports_the_missing_environment() -> None:
    without_libraries = [sys.executable, "-S", "-m", "tasks", "curate"]
    done = subprocess.run(without_libraries, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no psutil" in done.stderr
    assert "source .venv/bin/activate" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_deprecation_warnings_of_libraries_are_not_shown() -> None:
    warns = "import warnings; from flows.cli import main; main.run = lambda *_, **__: warnings.warn('renamed', FutureWarning)"
    quiet = [sys.executable, "-c", f"{warns}; main.main()"]
    loud = [sys.executable, "-W", "default", *quiet[1:]]
    assert subprocess.run(quiet, capture_output=True, text=True, check=True).stderr == ""
    assert "renamed" in subprocess.run(loud, capture_output=True, text=True, check=True).stderr


def test_a_library_that_waits_forever_at_exit_does_not_block_a_command() -> None:
    waits = "import threading; from flows.cli import main; main.LAST_SECONDS = 0.5"
    waits += "; threading._register_atexit(threading.Event().wait)"
    done = subprocess.run(
        [sys.executable, "-c", f"{waits}; main.main()", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "quarantine" in done.stdout


def test_wrong_usage_exits_2(strop: Any, configured: Path) -> None:
    assert strop("nonsense")[0] == 2
    assert strop("audit")[0] == 2
    assert strop("audit", "zero")[0] == 2
    assert strop("run", "--nonsense")[0] == 2
    assert strop("schedule")[0] == 2
    assert strop("schedule", "--every", "1d", "--cron", "* * * * *")[0] == 2
    assert strop("promote", "1", "--force")[0] == 2


def test_outside_a_project_the_error_has_where_and_fix(
    strop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = strop("status")
    assert code == 1
    assert err.startswith("strop: ")
    assert str(tmp_path) in err
    assert "--project" in err


def test_the_project_option_may_be_anywhere_in_the_command_line(
    strop: Any, configured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in (["--project", str(configured), "config"], ["config", f"--project={configured}"]):
        monkeypatch.chdir(tmp_path)
        assert strop(*line)[0] == 0
    monkeypatch.chdir(tmp_path)
    code, _, err = strop("config", "--project", str(tmp_path / "nowhere"))
    assert code == 1
    assert "nowhere" in err


def test_errors_in_params_are_reported_before_anything_runs(strop: Any, configured: Path) -> None:
    (configured / "params.yaml").write_text("base: {model: x}\nfinetune: {learning_rat: 1}\n")
    code, _, err = strop("run")
    assert code == 1
    assert "learning_rate" in err
    assert not (configured / "data/raw").exists()


def test_doctor_reports_what_is_missing_with_a_fix(strop: Any, configured: Path) -> None:
    write_jsonl(configured / "inbox/news.jsonl", topic_records(3))
    give_empty_registry(configured)
    code, out, _ = strop("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)["findings"]}
    assert code == 1
    assert findings["base"]["state"] == "wrong"
    assert findings["git"]["state"] == "ok"
    assert findings["sources"]["state"] == "ok"
    assert findings["base"]["fix"]


def test_doctor_shows_threads_and_why_and_a_precision_that_is_only_emulated(
    strop: Any, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.base import precision
    from tasks.runtime import threads
    from tasks.runtime.cores import Limits, Load, Quota

    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "read_limits", lambda: Limits(8, None, Quota(2.0, Path())))
    monkeypatch.setattr(threads.LoadMeter, "read", lambda _: Load(3.0, group=1.0))
    monkeypatch.setattr(precision, "computes_bf16", lambda: False)
    write_params(configured, params("scratch", [SOURCE], evaluate={"precision": "bf16"}))
    give_empty_registry(configured)
    findings = {finding["name"]: finding for finding in json.loads(strop("doctor", "--json")[1])["findings"]}
    assert findings["threads"]["state"] == "note"
    assert (
        "1 thread (8 cores, of which other processes use 3.0; CPU quota 2, of which 1.0 is used)"
        in findings["threads"]["told"]
    )
    assert findings["precision"]["state"] == "note"
    assert "evaluate.precision is bf16" in findings["precision"]["told"]
    assert findings["precision"]["fix"] == "Set evaluate.precision: auto"


def test_doctor_finds_nothing_wrong_with_a_base_from_scratch_before_its_first_rows(
    strop: Any, configured: Path
) -> None:
    write_jsonl(configured / "inbox/news.jsonl", topic_records(3))
    write_params(configured, params("scratch", [SOURCE]))
    code, out, _ = strop("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)["findings"]}
    assert code == 0
    assert findings["base"]["state"] == "note"
    assert "strop run" in findings["base"]["fix"]


def test_config_prints_every_setting_and_the_schema(strop: Any, configured: Path) -> None:
    code, out, _ = strop("config", "--json")
    assert code == 0
    assert json.loads(out)["validate"]["data_docs"] is False
    code, out, _ = strop("config", "--schema")
    schema = json.loads(out)
    assert {"base", "validate", "register"} <= set(schema["properties"])
    for part in [schema, *schema["$defs"].values()]:
        for name, field in part.get("properties", {}).items():
            assert field.get("description"), f"{part['title']}.{name}"
    code, out, _ = strop("config")
    assert "model_name: tiny" in out


def test_history_and_status_before_the_first_run(strop: Any, configured: Path) -> None:
    assert "strop run" in strop("history")[1]
    assert json.loads(strop("history", "--json")[1]) == []
    code, out, _ = strop("status", "--json")
    assert code == 0
    status = json.loads(out)
    assert status["champion"] is None
    assert status["is_anything_new"] is True
    assert status["summary"]["data"] is None


def test_a_batch_is_excluded_and_included_by_the_start_of_its_id(strop: Any, configured: Path) -> None:
    write_manifest(
        [Batch(1, "ab12" + "0" * 12, "news", 40, "f" * 64), Batch(2, "ab34" + "0" * 12, "news", 2, "e" * 64)]
    )
    code, _, err = strop("data", "exclude", "ab")
    assert code == 1
    assert "2 batches match" in err
    assert strop("data", "exclude", "ab12", "--why", "labels are shuffled")[0] == 0
    code, _, err = strop("data", "exclude", "ab12")
    assert code == 1
    states = {batch["batch"][:4]: batch["state"] for batch in json.loads(strop("data", "batches", "--json")[1])}
    assert states == {"ab12": "excluded", "ab34": "not validated yet"}
    assert json.loads(strop("data", "include", "ab12", "--json")[1])["what"] == "include"
    assert strop("data", "exclude", "ff")[0] == 1


def test_a_source_is_read_again_under_its_present_settings(strop: Any, configured: Path, tmp_path: Path) -> None:
    from tasks.config import load_config
    from tasks.ingest.sources import ingest_sources
    from tasks.vcs.dvc_pipeline import add_raw

    write_jsonl(configured / "inbox/a.jsonl", [record | {"score": 1} for record in topic_records(3)])
    ingest_sources(load_config().ingest)
    add_raw()
    code, out, _ = strop("data", "reread", "news")
    assert (code, "; nothing to do." in out) == (0, True)
    write_params(configured, params(tmp_path / "no-model", [SOURCE | {"family": "sentiment"}]))
    result = json.loads(strop("data", "reread", "news", "--json")[1])
    assert (result["rows"], result["changed"]) == (3, ["family topic → sentiment"])
    batches = json.loads(strop("data", "batches", "--json")[1])
    assert [batch["state"] for batch in batches] == ["excluded", "not validated yet"]
    assert [batch["unused"] for batch in batches] == [["score"], ["score"]]
    assert result["batches"] == {batches[0]["batch"]: batches[1]["batch"]}
    code, _, err = strop("data", "reread", "nwes")
    assert (code, "no such source" in err and "There are: news" in err) == (1, True)


def test_quarantine_shows_rows_with_their_reasons(strop: Any, configured: Path) -> None:
    import pyarrow as pa

    rows = [
        {
            "row_id": f"{number:02d}" + "a" * 30, "batch": "b" * 16, "index": number, "source": "news",
            "file": "inbox/news.jsonl", "line": number + 1, "reason": reason, "field": "output", "value": "坏�",
            "record": '{"text": "坏�"}',
        }
        for number, reason in enumerate(["empty_output", "encoding_damage", "encoding_damage"])
    ]  # fmt: skip
    write_parquet(
        configured / "data/quarantine/validate/000001-b.parquet", pa.Table.from_pylist(rows, QUARANTINE_SCHEMA)
    )
    listed = json.loads(strop("quarantine", "list", "--json")[1])
    assert listed["reasons"] == {"encoding_damage": 2, "empty_output": 1}
    assert json.loads(strop("quarantine", "list", "--reason", "empty_output", "--json")[1])["rows"] == 1
    code, out, _ = strop("quarantine", "list")
    assert "encoding_damage" in out
    assert "inbox/news.jsonl:1" in out
    code, out, _ = strop("quarantine", "show", "01")
    assert code == 0
    assert "坏" in out
    assert strop("quarantine", "show", "0")[0] == 1
    assert strop("quarantine", "release", "01", "--why", "it is fine")[0] == 0
    assert json.loads((configured / "data/decisions.jsonl").read_text())["what"] == "release"


def test_an_unknown_model_is_reported_with_the_known_ones(strop: Any, configured: Path) -> None:
    for to in ("champion", "7", "nobody"):
        code, _, err = strop("generate", "Hello", "--to", to)
        assert code == 1
        assert f"--to {to}" in err
    assert strop("generate", "  ")[0] == 2


def test_a_full_disk_is_one_line(strop: Any, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "data/raw/x.parquet")

    monkeypatch.setattr("flows.run_once.run_once", full)
    code, _, err = strop("run")
    assert code == 1
    assert "no space left" in err
    assert "data/raw/x.parquet" in err


def test_a_damaged_report_is_named(strop: Any, configured: Path) -> None:
    write_json(configured / "data/reports/validate.json", {})
    (configured / "data/reports/validate.json").write_text("{half")
    code, _, err = strop("status")
    assert code == 1
    assert "data/reports/validate.json" in err
