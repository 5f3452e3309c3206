"""The quick walk does not read unchanged files again, and its cache hides nothing from the deep one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import REPOSITORY

from tasks.audit import digests as room
from tasks.audit.digests import CACHE, Digests
from tasks.errors import VersioningError
from tasks.runtime.files import file_digest, file_state, md5_of


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose times are long past, as those of a model are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(room, "SETTLED_SECONDS", 0.0)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"0" * 1000)
    return path


def walk(path: Path, deep: bool = False) -> tuple[str, int]:
    """The digest in a new walk, and the bytes that it read."""
    digests = Digests(reads_all=deep)
    result = digests.sha256(path)
    digests.save()
    return result, digests.read_bytes


def forge_cache(path: Path, digest: str) -> None:
    """A cache that has another digest for the present state of a file: as after a change that `stat` does not show."""
    state = file_state(path)
    assert state is not None
    CACHE.parent.mkdir(exist_ok=True)
    CACHE.write_text(json.dumps({str(path.resolve()): {"sha256": [*state, digest]}}))


def test_a_quick_walk_reads_an_unchanged_file_once(file: Path) -> None:
    assert walk(file) == (file_digest(file), 1000)
    assert walk(file) == (file_digest(file), 0)
    assert walk(file, deep=True) == (file_digest(file), 1000)


def test_a_quick_walk_reads_a_file_with_a_changed_byte_and_the_old_time(file: Path) -> None:
    walk(file)
    times = file.stat()
    file.write_bytes(b"1" + b"0" * 999)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_mtime_ns == times.st_mtime_ns
    assert walk(file) == (file_digest(file), 1000), "the time of the inode's last change cannot be set"


def test_a_quick_walk_reads_a_file_that_took_the_place_of_another(file: Path) -> None:
    walk(file)
    other = file.with_name("other")
    other.write_bytes(b"2" * 1000)
    times = file.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)
    assert walk(file) == (file_digest(file), 1000)


def test_a_file_that_has_just_changed_is_not_cached(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SETTLED_SECONDS", 60.0)
    walk(file)
    assert walk(file)[1] == 1000
    assert not CACHE.exists()


def test_only_a_deep_walk_finds_a_change_that_stat_does_not_show_and_later_quick_ones_report_it(file: Path) -> None:
    forge_cache(file, "a" * 64)
    assert walk(file) == ("a" * 64, 0)
    assert walk(file, deep=True) == (file_digest(file), 1000)
    assert walk(file) == (file_digest(file), 0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"/x": {"sha256": 3}}'])
def test_a_damaged_cache_is_not_used(file: Path, content: str) -> None:
    CACHE.parent.mkdir(exist_ok=True)
    CACHE.write_text(content)
    assert walk(file) == (file_digest(file), 1000)


def test_a_cache_that_cannot_be_written_is_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(room, "write_json", refuse)
    assert walk(file)[0] == file_digest(file)


def test_entries_of_files_that_are_gone_are_removed(file: Path) -> None:
    other = file.with_name("模型.bin")
    other.write_bytes(b"3")
    walk(other)
    other.unlink()
    walk(file)
    assert list(json.loads(CACHE.read_text(encoding="utf-8"))) == [str(file)]


def test_a_file_with_two_names_is_read_once_in_a_walk(file: Path) -> None:
    link = file.with_name("link.bin")
    os.link(file, link)
    digests = Digests(reads_all=True)
    digests.read_ahead([("sha256", file), ("sha256", link), ("md5", file), ("sha256", file.with_name("missing"))])
    assert digests.read_bytes == 2000
    assert (digests.sha256(link), digests.md5(link)) == (file_digest(file), md5_of(file))
    assert digests.read_bytes == 2000


def test_a_missing_file_is_an_error_that_names_it(file: Path) -> None:
    with pytest.raises(VersioningError, match=r"missing\.bin: not found"):
        Digests(reads_all=True).md5(file.with_name("missing.bin"))


def test_an_audit_imports_neither_mlflow_nor_torch() -> None:
    code = (
        "import sys, tasks.audit.stage, flows.cli.audit, flows.report.audit_report.page; "
        "print([name for name in ('mlflow', 'torch', 'transformers', 'pandas', 'prefect') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
