"""What Prefect stores of an error: nothing of a row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import steps
from flows.runtime.stored_errors import LibraryError, with_storable_errors
from tasks import paths
from tasks.errors import DataError, DiskError

ROW = "患者 Jane Roe, born 1970-01-01"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STROP_LOG_FILE", raising=False)


def raised(work: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught, with_storable_errors():  # noqa: PT011
        work()
    return caught.value


def everything(error: Exception) -> str:
    """What Prefect may write: its state's message, and the traceback in its log."""
    return f"{error!r} {error} {logging.Formatter().formatException((type(error), error, error.__traceback__))}"


def parse() -> None:
    raise ValueError(f"cannot parse {ROW}")


def of_ours() -> None:
    try:
        parse()
    except ValueError as error:
        raise DataError("a row cannot be parsed", where="data/raw/a.parquet") from error


def test_an_error_of_a_library_keeps_its_kind_and_place_and_its_text_is_in_the_log_file_alone() -> None:
    error = raised(parse)
    assert isinstance(error, LibraryError)
    assert type(error).__name__ == "ValueError"
    assert "test_stored_errors.py line" in str(error)
    assert str(paths.LOG) in str(error)
    assert ROW not in everything(error)
    assert f"ValueError: cannot parse {ROW}" in paths.LOG.read_text(encoding="utf-8")
    again = raised(lambda: (_ for _ in ()).throw(error))
    assert again is error, "it passes through task and flow"


def test_an_error_of_strop_keeps_its_message_without_its_cause() -> None:
    error = raised(of_ours)
    assert str(error) == "data/raw/a.parquet: a row cannot be parsed."
    assert isinstance(error, DataError)
    assert ROW not in everything(error)
    assert str(raised(lambda: (_ for _ in ()).throw(error))) == str(error), "it passes through task and flow"
    log = paths.LOG.read_text(encoding="utf-8")
    assert log.count(f"ValueError: cannot parse {ROW}") == 1


def test_temporary_errors_are_still_retried_and_a_full_disk_is_reported() -> None:
    def lost() -> None:
        raise ConnectionResetError(f"lost while sending {ROW}")

    error = raised(lost)
    assert isinstance(error, steps.RETRYABLE)
    assert ROW not in everything(error)
    full = raised(lambda: (_ for _ in ()).throw(OSError(28, "No space left on device", "x")))
    assert isinstance(full, DiskError)


def test_a_secret_is_not_in_the_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.runtime.redaction.errors_and_logs import install

    install()
    monkeypatch.setenv("DB_PASSWORD", "hunter22hunter22")
    raised(lambda: int("hunter22hunter22"))
    text = paths.LOG.read_text(encoding="utf-8")
    assert "ValueError" in text
    assert "hunter22" not in text


@pytest.mark.parametrize("name", [name for name, step in vars(steps).items() if type(step).__name__ == "Task"])
def test_no_task_lets_the_text_of_a_library_through(name: str) -> None:
    with pytest.raises(LibraryError):
        getattr(steps, name).fn(unknown_argument=ROW)
