"""The log of a process: levels, formats, streams, and a rotated file; results are on standard output alone."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY

from tasks.errors import ConfigError
from tasks.runtime.logs import handlers
from tasks.runtime.logs.formats import RUN, error_fields
from tasks.runtime.logs.libraries import LIBRARY_LEVELS, set_library_level, silence
from tasks.runtime.logs.setup import FILE, FORMAT, LEVEL, set_up_logs

Strop = Callable[..., tuple[int, str, str]]

START = """
import logging, sys
from tasks.runtime.terminal_text import prepare_streams
from tasks.runtime.logs.setup import set_up_logs
prepare_streams()
set_up_logs("curate")
logger = logging.getLogger("tasks.curate.stage")
"""
WORK = f"""{START}
from tasks.runtime.progress import track
with track("curate", 100, "rows") as progress:
    for step in range(50):
        progress.advance(2, loss=0.25)
    logger.debug("curate: a detail")
    logger.info("curate: 100 rows of 城市 \\x1b[2J[bold]x[/]")
    logger.warning("curate: 3 rows left out")
logger.error("strop: it failed")
print("a result")
"""


def run(code: str, **environment: str) -> tuple[str, str]:
    """(standard output, standard error) of a process with pipes."""
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, check=True)
    return done.stdout.decode(), done.stderr.decode()


def run_on_a_terminal(code: str, **environment: str) -> tuple[str, str]:
    """(standard output, a pipe; standard error, a terminal)."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", **environment}
    process = subprocess.Popen([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux reports the end so
            break
        shown += part
        if not part:
            break
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    return out.decode(), shown.decode()


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


PROGRESS = [r"curate: 2/100 rows · [\d,.]+ rows/s · loss 0\.25", r"curate: 100/100 rows · [\d,.]+ rows/s · loss 0\.25"]


def test_in_a_pipe_the_log_is_plain_lines_and_the_result_is_alone_on_standard_output(tmp_path: Path) -> None:
    out, log = run(f"import os; os.chdir({str(tmp_path)!r})\n{WORK}")
    assert out == "a result\n"
    first, *lines, last, error = log.splitlines()
    assert lines == ["curate: 100 rows of 城市 \\x1b[2J[bold]x[/]", "curate: 3 rows left out"]
    assert re.fullmatch(PROGRESS[0], first)
    assert re.fullmatch(PROGRESS[1], last), "progress is a line every ten seconds, and one at the end"
    assert error == "strop: it failed"


def test_on_a_terminal_lines_are_styled_above_a_progress_bar_and_escaped(tmp_path: Path) -> None:
    out, shown = run_on_a_terminal(f"import os; os.chdir({str(tmp_path)!r})\n{WORK}")
    assert out == "a result\n"
    assert "━" in shown
    assert "100 %" in shown
    assert "\x1b[33mcurate: 3 rows left out\x1b[0m\r\n" in shown
    assert "\x1b[1;31mstrop: it failed\x1b[0m\r\n" in shown
    assert "curate: 100 rows of 城市 \\x1b[2J[bold]x[/]\r\n" in shown
    assert "\x1b[2J" not in shown
    assert "rows/s · loss 0.25\r\n" not in shown, "a bar instead of progress lines"


@pytest.mark.parametrize("is_terminal", [False, True], ids=["pipe", "terminal"])
def test_a_quiet_log_has_warnings_and_errors_only(is_terminal: bool, tmp_path: Path) -> None:
    start = run_on_a_terminal if is_terminal else run
    out, log = start(f"import os; os.chdir({str(tmp_path)!r})\n{WORK}", **{LEVEL: "warning", "NO_COLOR": "1"})
    assert out == "a result\n"
    lines = re.sub(r"\x1b\[[0-9;]*m|\r", "", log).splitlines()
    assert lines == ["curate: 3 rows left out", "strop: it failed"]


def test_a_verbose_log_has_details_with_time_level_and_module(tmp_path: Path) -> None:
    _, log = run(f"import os; os.chdir({str(tmp_path)!r})\n{WORK}", **{LEVEL: "debug"})
    (detail,) = [line for line in log.splitlines() if "a detail" in line]
    time, rest = detail.split(" ", 1)
    assert datetime.fromisoformat(time).tzinfo is not None
    assert rest == "DEBUG tasks.curate.stage: curate: a detail"


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "ascii"])
def test_a_json_log_is_one_object_a_line(encoding: str, tmp_path: Path) -> None:
    code = f"import os; os.chdir({str(tmp_path)!r})\n{WORK}"
    out, log = run(code, **{FORMAT: "json", RUN: "20261129T000000Z-ab12", "PYTHONIOENCODING": encoding})
    assert out == "a result\n"
    first, info, warning, last, error = entries(log)
    assert datetime.fromisoformat(info.pop("time")).tzinfo is not None
    message = "curate: 100 rows of 城市 \x1b[2J[bold]x[/]"
    known = {"logger": "tasks.curate.stage", "stage": "curate", "run": "20261129T000000Z-ab12"}
    assert info == {"level": "INFO", "message": message, **known}
    assert (warning["level"], error["level"]) == ("WARNING", "ERROR")
    assert re.fullmatch(PROGRESS[0], first["message"])
    assert {name: last[name] for name in ("done", "total", "unit", "stage")} == {
        "done": 100.0, "total": 100, "unit": "rows", "stage": "curate"
    }  # fmt: skip
    assert "\x1b" not in log


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_signal_handler_writes_a_line_although_the_log_is_locked(log_format: str) -> None:
    code = f"""{START}
from tasks.runtime.logs.handlers import write_from_signal_handler
import threading
(handler,) = logging.getLogger("tasks").handlers
threading.Thread(target=handler.acquire).start()
write_from_signal_handler(logger, "curate: stopping …")
sys.stderr.flush()
import os; os._exit(0)
"""
    _, log = run(code, **{FORMAT: log_format})
    line = log if log_format == "text" else entries(log)[0]["message"] + "\n"
    assert line == "curate: stopping …\n"


def test_an_unknown_level_or_format_is_reported_and_ignored() -> None:
    _, log = run(f"{START}\nlogger.info('curate: a line')", **{LEVEL: "loud", FORMAT: "xml"})
    assert log.splitlines() == [
        "STROP_LOG_LEVEL is 'loud': it is ignored. Set it to debug, info, warning or error",
        "STROP_LOG_FORMAT is 'xml': it is ignored. Set it to text or json",
        "curate: a line",
    ]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_reaches_the_log_or_its_file(log_format: str, tmp_path: Path) -> None:
    code = f"""{START}
import threading
from tasks.errors import StropError
from tasks.runtime.logs.formats import error_fields
error = StropError("no access", where="postgresql://me:other33@db/x", fix="See https://h/x?token=other33")
error.where = "postgresql://me:other33@db/x"
logger.error(f"strop: {{error}}", extra=error_fields(error))
try:
    raise ValueError("hunter22 of https://me:other33@h/")
except ValueError:
    logger.exception("it broke")
logging.getLogger("somebody").warning("reached %s with hunter22", "https://me:other33@h/")
def fails(): raise ValueError("hunter22")
threading.Thread(target=fails).start()
"""
    file = tmp_path / "logs/strop.log"
    _, log = run(code, **{FORMAT: log_format, FILE: str(file), "DB_PASSWORD": "hunter22"})
    for text in (log, file.read_text(encoding="utf-8")):
        assert "hunter22" not in text
        assert "other33" not in text
        assert text.count("Traceback") == 2
        assert "no access" in text
    if log_format == "json":
        error, broke, _, uncaught = entries(log)
        assert error["what"] == "no access"
        assert error["where"] == "postgresql://me:…@db/x"
        assert "ValueError" in broke["exception"]
        assert "ValueError" in uncaught["message"]
        assert entries(file.read_text(encoding="utf-8"))


def test_several_processes_share_a_rotated_file_and_lose_no_line(tmp_path: Path) -> None:
    lines, processes = 150, 3
    file = tmp_path / "logs/strop.log"
    code = f"""
from tasks.runtime.logs import handlers
handlers.MAX_FILE_BYTES, handlers.OLDER_FILES = 20_000, 9
{START}
for number in range({lines}):
    logger.info(f"{{sys.argv[1]}} {{number}} " + "x" * 100)
"""
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), FILE: str(file)}
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(name)], env=variables, stderr=subprocess.DEVNULL)
        for name in range(processes)
    ]
    assert [process.wait(120) for process in started] == [0] * processes
    files = sorted(path for path in file.parent.iterdir() if path.suffix != ".lock")
    assert len(files) > 3
    assert all(path.stat().st_size <= 20_000 for path in files)
    written = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    pattern = re.compile(r"\S+ INFO tasks\.curate\.stage: (\d) (\d+) x{100}")
    result = {match.groups() for line in written if (match := pattern.fullmatch(line))}
    assert result == {(str(name), str(number)) for name in range(processes) for number in range(lines)}
    assert len(written) == lines * processes


def test_old_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MAX_FILE_BYTES", 1_000)
    monkeypatch.setenv(FILE, str(tmp_path / "strop.log"))
    set_up_logs()
    for number in range(100):
        logging.getLogger("tasks.curate.stage").info(f"{number} " + "x" * 80)
    assert {path.name for path in tmp_path.iterdir()} == {
        "strop.log", *(f"strop.log.{number}" for number in range(1, handlers.OLDER_FILES + 1)), "strop.log.lock"
    }  # fmt: skip


def test_a_log_file_that_cannot_be_written_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FILE, str(tmp_path / "file" / "strop.log"))
    set_up_logs()
    logging.getLogger("tasks.curate.stage").info("curate: at work")
    assert capsys.readouterr().err.endswith(" curate: at work\n"), "with a time, as where a schedule runs"


def test_libraries_are_shown_by_the_levels_of_one_table() -> None:
    """Prefect configures the root logger when it is imported, and would drop our handler or add its own lines."""
    code = f"""{START}
from flows.runtime.environment import silence_libraries
silence_libraries()
import prefect
logger.info("ours")
logging.getLogger("somebody").warning("a library's warning")
logging.getLogger("somebody").info("a library's detail")
logging.getLogger("prefect.flow_runs").propagate = True
logging.getLogger("prefect.client").error("Prefect's error")
logging.getLogger("great_expectations.core").warning("a warning of Great Expectations")
"""
    out, log = run(code)
    assert (out, log) == ("", "ours\na library's warning\n")


def test_warnings_of_libraries_are_objects_too_and_are_in_the_file(tmp_path: Path) -> None:
    code = f"{START}\nimport warnings\nwarnings.warn('renamed')\nlogging.getLogger('somebody').warning('slow')"
    _, log = run(code, **{FORMAT: "json", FILE: str(tmp_path / "strop.log"), "PYTHONWARNINGS": ""})
    for text in (log, (tmp_path / "strop.log").read_text(encoding="utf-8")):
        renamed, slow = entries(text)
        assert "UserWarning: renamed" in renamed["message"]
        assert (slow["level"], slow["logger"], slow["message"]) == ("WARNING", "somebody", "slow")


def test_levels_of_libraries_are_set_and_a_users_value_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    library = logging.getLogger("mlflow")
    before = library.level
    try:
        monkeypatch.delenv("MLFLOW_LOGGING_LEVEL", raising=False)
        set_library_level("mlflow")
        assert library.level == LIBRARY_LEVELS["mlflow"] == logging.CRITICAL
        monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "debug")
        set_library_level("mlflow")
        assert library.level == logging.DEBUG
    finally:
        library.setLevel(before)


def test_a_silenced_library_leaves_our_lines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    inner = logging.getLogger("toylibrary.inner")
    inner.setLevel(logging.DEBUG)
    silence("toylibrary")
    inner.critical("lost server")
    logging.getLogger("toylibrary.later").critical("lost server")
    logging.getLogger("flows.cli.main").error("strop: the Prefect server ended 3 times in 4 s.")
    assert capsys.readouterr().err == "strop: the Prefect server ended 3 times in 4 s.\n"


@pytest.mark.parametrize("options", [["-v"], ["--verbose"], ["-q"], ["--quiet"]], ids=str)
@pytest.mark.parametrize("is_last", [False, True], ids=["first", "last"])
def test_the_level_is_an_option_of_every_command_and_reaches_its_children(
    options: list[str], is_last: bool, strop: Strop
) -> None:
    code, out, _ = strop(*(["config", "--schema", *options] if is_last else [*options, "config", "--schema"]))
    assert (code, json.loads(out)["title"]) == (0, "PipelineConfig")
    assert os.environ[LEVEL] == ("debug" if "v" in options[0] else "warning")
    assert logging.getLogger("tasks").level == (logging.DEBUG if "v" in options[0] else logging.WARNING)


def test_verbose_and_quiet_exclude_each_other(strop: Strop) -> None:
    assert strop("-v", "-q", "config")[0] == 2


def test_an_error_is_a_line_and_with_json_an_object_with_its_parts(strop: Strop, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    what = "cannot change to this folder (No such file or directory)"
    code, out, err = strop("config", "--project", nowhere)
    assert (code, out, err) == (1, "", f"strop: {nowhere}: {what}. Fix --project\n")
    code, out, err = strop("config", "--project", nowhere, "--log-format", "json")
    (entry,) = entries(err)
    assert (code, out, entry["level"], entry["logger"]) == (1, "", "ERROR", "flows.cli.main")
    assert entry["message"] == f"strop: {nowhere}: {what}. Fix --project"
    assert {name: entry[name] for name in ("what", "where", "fix")} == {
        "what": what, "where": nowhere, "fix": "Fix --project"
    }  # fmt: skip


def test_a_wrong_command_line_is_an_object_too(strop: Strop) -> None:
    code, out, err = strop("config", "--nonsense", "--log-format=json")
    assert (code, out) == (2, "")
    assert "--nonsense" in entries(err)[0]["message"]
    assert strop("--log-format", "xml", "config")[0] == 2


def test_details_of_an_error_are_shown_with_v(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.cli import main

    assert main.run(["-v", "config", "--project", str(tmp_path / "nowhere")]) == 1
    err = capsys.readouterr().err
    assert "DEBUG flows.cli.main: the origin of this error" in err
    assert "FileNotFoundError" in err


def test_the_fields_of_an_error_are_those_of_a_strop_error() -> None:
    error = ConfigError("no such setting", where="params.yaml", fix="Remove it")
    assert error_fields(error) == {"what": "no such setting", "where": "params.yaml", "fix": "Remove it"}
    assert error_fields(ValueError("x")) == {}


def test_a_stage_reports_its_error_as_an_object(tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), FORMAT: "json"}
    command = [sys.executable, "-m", "tasks", "gate"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (entry,) = entries(done.stderr)
    assert (entry["stage"], entry["where"], entry["logger"]) == ("gate", "params.yaml", "tasks.__main__")
