"""The converted base is stored once per machine, and only where no other user can change it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY

from tasks import paths
from tasks.base import convert
from tasks.base.convert import base_folder, bases_folders
from tasks.base.pin import BaseRecord


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were converted, by a converter that only copies."""
    done: list[str] = []
    real = convert.write_json

    def write(model: Any, tokenizer: Any, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(model)
        real(folder / convert.DIGESTS, {n: convert.file_digest(folder / n) for n in ("config.json", WEIGHTS)})

    def read(gguf: Path) -> tuple[bytes, None]:
        done.append(gguf.name)
        return gguf.read_bytes(), None

    monkeypatch.setattr(convert, "_read", read)
    monkeypatch.setattr(convert, "_write", write)
    return done


WEIGHTS = "model.safetensors"


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[[bytes], BaseRecord]:
    def make(content: bytes = b"weights") -> BaseRecord:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return BaseRecord(str(path), "gguf", None, {"model.gguf": convert.file_digest(path)})

    return make


def test_two_projects_convert_a_base_once(
    make_project: Any, cache: Path, converted: list[str], make_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, folders = make_record(), []
    for name in ("first", "second"):
        monkeypatch.chdir(make_project(name))
        folders.append(base_folder(record))
        assert not paths.BASES.exists()
    assert converted == ["model.gguf"]
    assert folders[0] == folders[1]
    assert folders[0].is_relative_to(cache / "bases")


def test_another_file_and_another_converter_have_a_folder_of_their_own(
    project: Path, cache: Path, converted: list[str], make_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [base_folder(make_record()), base_folder(make_record(b"others"))]
    monkeypatch.setattr(convert, "CONVERTER", 2)
    folders.append(base_folder(make_record()))
    assert len(set(folders)) == len(converted) == 3


def test_a_damaged_file_is_never_loaded_but_converted_again(
    project: Path, cache: Path, converted: list[str], make_record: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = base_folder(make_record())
    (folder / WEIGHTS).write_bytes(b"WEIGHTS")
    assert (base_folder(make_record()) / WEIGHTS).read_bytes() == b"weights"
    assert len(converted) == 2
    assert capsys.readouterr().err == f"base: {folder / WEIGHTS} is damaged; the base is converted again\n"
    (folder / "config.json").unlink()
    assert (base_folder(make_record()) / "config.json").is_file()
    (folder / "adapter_config.json").write_text("{}")
    capsys.readouterr()
    assert not (base_folder(make_record()) / "adapter_config.json").exists()
    assert f"{folder / 'adapter_config.json'} does not belong to it" in capsys.readouterr().err


def test_a_file_that_did_not_change_is_not_read_again(
    project: Path, cache: Path, converted: list[str], make_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record()
    base_folder(record)
    base_folder(record)
    monkeypatch.setattr("tasks.base.pin.file_digest", lambda path: pytest.fail(f"{path} is read again"))
    base_folder(record)


@pytest.mark.parametrize("level", [".", "bases", "bases/entry"])
def test_a_folder_that_is_writable_by_other_users_is_not_used(
    level: str, project: Path, cache: Path, converted: list[str], make_record: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = base_folder(make_record())
    open_to_all = cache / level if level != "bases/entry" else entry
    open_to_all.chmod(0o777)
    folder = base_folder(make_record())
    if open_to_all != entry:
        assert folder.parent == paths.BASES
    assert len(converted) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{open_to_all} is writable by other users" in line


def test_a_folder_of_another_user_is_not_used(
    project: Path, cache: Path, converted: list[str], make_record: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    base_folder(make_record())
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    assert base_folder(make_record()).parent == paths.BASES
    assert "belongs to another user" in capsys.readouterr().err
    assert len(converted) == 2


def test_if_the_cache_is_not_writable_the_project_uses_its_own_folder(
    project: Path, cache: Path, converted: list[str], make_record: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write = convert._write

    def full(model: Any, tokenizer: Any, folder: Path) -> None:
        if folder.is_relative_to(cache):
            raise OSError(28, "No space left on device")
        write(model, tokenizer, folder)

    monkeypatch.setattr(convert, "_write", full)
    assert base_folder(make_record()).parent == paths.BASES
    assert converted == ["model.gguf"], "the loaded model is written to the other folder, not read again"
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert [path.name for path in (cache / "bases").iterdir()] == []
    assert base_folder(make_record()).parent == paths.BASES
    assert len(converted) == 1


def test_without_a_cache_folder_the_project_uses_its_own_folder(
    project: Path, tmp_path: Path, converted: list[str], make_record: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "file"))
    assert base_folder(make_record()).parent == paths.BASES
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "base: the cache of this machine cannot be used (File exists; STROP_CACHE names another folder)"
    )


def test_the_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STROP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert bases_folders()[0] == tmp_path / "home/.cache/strop/bases"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert bases_folders()[0] == tmp_path / "xdg/strop/bases"
    assert bases_folders()[0].stat().st_mode & 0o077 == 0, "closed to others whatever the umask"
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "own"))
    assert bases_folders() == [tmp_path / "own/bases", paths.BASES]


def test_concurrent_processes_convert_a_base_once(project: Path, cache: Path, make_record: Any) -> None:
    record = make_record(b"x" * 100_000)
    script = textwrap.dedent(
        """
        import json, sys, time
        from pathlib import Path
        from tasks.base import convert
        from tasks.base.pin import BaseRecord
        def read(gguf):
            print("converts", flush=True)
            time.sleep(0.3)
            return gguf.read_bytes(), None
        def write(model, tokenizer, folder):
            (folder / "model.safetensors").write_bytes(model)
            digests = {"model.safetensors": convert.file_digest(folder / "model.safetensors")}
            convert.write_json(folder / convert.DIGESTS, digests)
        convert._read, convert._write = read, write
        print((convert.base_folder(BaseRecord(**json.loads(sys.argv[1]))) / "model.safetensors").stat().st_size)
        """
    )
    import json

    command = [sys.executable, "-c", script, json.dumps(record.entry())]
    environment = {"PYTHONPATH": str(REPOSITORY), "STROP_CACHE": str(cache), "PATH": "/usr/bin:/bin"}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=project) for _ in range(4)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in started]
    assert sorted(line for lines in outputs for line in lines) == ["100000"] * 4 + ["converts"]
