"""A full disk: one line with the fix, no SQL, older files stay intact, and the work continues once there is space."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError
from support import toyworld

from flows.runtime import server_guard
from tasks.errors import DiskError, StropError, VersioningError, disk_error
from tasks.runtime.files import read_json, write_json
from tasks.runtime.json_lines import append_line
from tasks.state.decisions import read_decisions, record_decision, record_decisions
from tasks.vcs.dvc_pipeline import reproduce

SQL = "INSERT INTO model_versions (name) VALUES (?)"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of so many kilobytes on a folder, with what was in it."""
    mounted: list[Path] = []

    def mount(folder: Path, kilobytes: int) -> Path:
        kept = tmp_path / f"kept-{len(mounted)}"
        if folder.exists():
            shutil.copytree(folder, kept)
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a small file system")
        mounted.append(folder)
        if kept.exists():
            shutil.copytree(kept, folder, dirs_exist_ok=True)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leaves no room on the folder's disk; removing the file makes room again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (4096, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def is_one_line(error: StropError) -> bool:
    return "\n" not in str(error) and "SQL" not in str(error) and "no space left" in str(error)


def test_a_log_and_a_file_are_as_they_were_before_a_write_that_had_no_room(
    small_disk: Callable[..., Path], tmp_path: Path
) -> None:
    disk = small_disk(tmp_path / "data", 64)
    log, file = disk / "decisions.jsonl", disk / "round.json"
    record_decision("exclude", "b1", "bad", log)
    write_json(file, {"a": 1})
    before = log.read_bytes()
    ballast = fill(disk)
    for write in (
        lambda: record_decision("include", "b1", "x" * 8000, log),
        lambda: record_decisions("drop", [f"row {n}" for n in range(200)], "many", log),
        lambda: append_line(log, {"long": "x" * 8000}),
        lambda: write_json(file, {"a": "x" * 8000}),
    ):
        with pytest.raises(OSError, match="No space left") as raised:
            write()
        assert "no space left" in str(disk_error(raised.value))
        assert log.read_bytes() == before
        assert read_json(file) == {"a": 1}
    assert {each.name for each in disk.iterdir()} == {"decisions.jsonl", "round.json", "ballast"}
    ballast.unlink()
    record_decision("include", "b1", "good", log)
    assert [each.what for each in read_decisions(log)] == ["exclude", "include"]


def test_the_registry_on_a_full_disk_refuses_in_one_line_and_registers_the_same_version_later(
    small_disk: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = toyworld.stand_in("judged", tmp_path, monkeypatch)
    disk = small_disk(root / "mlflow", 8000)
    ballast = fill(disk)
    with pytest.raises(DiskError) as raised:
        toyworld.register()
    assert is_one_line(raised.value), raised.value
    ballast.unlink()
    assert toyworld.register().version == 1


def test_dvcs_cache_on_a_full_disk_is_one_line_and_the_stage_runs_later(
    small_disk: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = toyworld.stand_in("judged", tmp_path, monkeypatch)
    toyworld.set_params(seed=2)
    disk = small_disk(root / ".dvc/cache", 2000)
    ballast = fill(disk)
    with pytest.raises((DiskError, VersioningError, OSError)) as raised:
        reproduce("finetune")
    problem = disk_error(raised.value) or raised.value
    assert isinstance(problem, StropError)
    assert is_one_line(problem), problem
    ballast.unlink()
    assert reproduce("finetune")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "data/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
        OperationalError(SQL, {"name": "secret"}, sqlite3.OperationalError("database or disk is full")),
        MlflowException(f"(sqlite3.OperationalError) database or disk is full [SQL: {SQL}]"),
        Exception("Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: ... })"),
        Exception("No space left on device (os error 28)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_library_makes_of_a_full_disk_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.cli import main

    def failing(*_: Any, **__: Any) -> None:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("as a library wraps it") from cause

    problem = disk_error(error)
    assert problem is not None
    assert is_one_line(problem)
    monkeypatch.setattr(main, "app", failing)
    assert main.run(["status"]) == 1
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "no space left" in written
    assert "Free some" in written
    assert "INSERT" not in written


def test_other_states_of_a_disk_have_a_line_and_other_errors_none() -> None:
    for number, words in (
        (errno.EROFS, "read-only"),
        (errno.EIO, "I/O error"),
        (errno.EFBIG, "ulimit"),
        (errno.EACCES, "access is denied"),
    ):
        assert words in str(disk_error(OSError(number, "x", "data/x")))
    assert "read-only" in str(disk_error(sqlite3.OperationalError("attempt to write a readonly database")))
    assert disk_error(ValueError("no space for this")) is None
    assert disk_error(OSError(errno.ENOENT, "No such file or directory", "x")) is None
    unrelated = ValueError("ours")
    unrelated.__context__ = PermissionError(errno.EACCES, "handled while it was raised", "data/x")
    assert disk_error(unrelated) is None


@pytest.mark.parametrize(
    ("is_full", "answer", "status"),
    [(True, 503, 507), (True, 500, 507), (False, 503, 503), (False, 500, 500), (True, 404, 404)],
)
def test_prefects_server_answers_a_full_disk_so_that_its_clients_do_not_try_for_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool, answer: int, status: int
) -> None:
    async def unavailable(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": answer, "headers": []})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    monkeypatch.setattr(server_guard, "is_full", lambda _: is_full)
    app = server_guard.report_full_disk(unavailable, tmp_path)
    asyncio.run(app({"type": "http"}, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == status
