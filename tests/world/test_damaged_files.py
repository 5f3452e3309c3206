"""A damaged file, or one with git's conflict markers: one line with its path and the fix, and the fix works."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.project import params, write_params

from tasks import paths
from tasks.base.pin import read_base
from tasks.config import load_config
from tasks.errors import StropError
from tasks.prompts.templates.templates import read_templates
from tasks.runtime.files import DamagedFile, read_json, read_object
from tasks.state.decisions import read_decisions, record_decision
from tasks.state.erasures import read_erasures
from tasks.state.manifest import read_manifest
from tasks.state.round import read_round
from tasks.state.training_start import read_start
from tasks.validate.load_contract import load_contract
from tasks.vcs import dvc_fast_status, dvc_pipeline
from tasks.vcs.dvc_outputs import output_hashes

DVC_YAML = """
stages:
  validate:
    cmd: mkdir -p data/validated && cp data/raw/rows data/validated/rows
    deps: [data/raw]
    outs: [data/validated]
"""


def conflicted(content: bytes) -> bytes:
    half = len(content) // 2
    return b"<<<<<<< HEAD\n" + content[:half] + b"\n=======\n" + content[half:] + b"\n>>>>>>> other\n"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "conflict": conflicted,
    "half": lambda content: content[: len(content) // 2] + b"\n{[",
    "binary": lambda content: b"\xff\xfe\x00\x80" + content,
    "zeros": lambda content: bytes(len(content) or 16),
    "empty": lambda _: b"",
    "list": lambda _: b"[1, 2]\n",
    "nested": lambda _: b"[" * 100_000,
}


def damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    for name, damage in DAMAGES.items():
        yield name, damage(content)


@pytest.fixture
def versioned(project: Path) -> Path:
    """A project with one stage that DVC ran."""
    (project / "data/raw").mkdir(parents=True)
    (project / "data/raw/rows").write_text("rows")
    (project / "dvc.yaml").write_text(DVC_YAML)
    (project / "params.yaml").write_text("{}")
    bring_up_to_date()
    return project


def bring_up_to_date() -> None:
    dvc_pipeline.add_raw()
    dvc_pipeline.reproduce("validate")
    assert dvc_pipeline.is_clean()


def line_of(work: Callable[[], Any]) -> str:
    """The one line that the work ends with."""
    with pytest.raises(StropError) as raised:
        work()
    assert "\n" not in str(raised.value)
    assert raised.value.fix
    return str(raised.value)


@pytest.mark.parametrize("path", [paths.DVC_LOCK, paths.RAW_DVC, paths.DVC_YAML], ids=str)
def test_dvcs_own_files_are_named_with_a_remedy_that_works(versioned: Path, path: Path) -> None:
    content, read = path.read_bytes(), dvc_fast_status.stat_digest if path == paths.DVC_YAML else output_hashes
    for name, damaged in damages(content):
        path.write_bytes(damaged)
        # DVC takes some damages of dvc.yaml for a pipeline without stages; the scan before it does not
        for line in [line_of(read), *([] if path == paths.DVC_YAML else [line_of(dvc_pipeline.is_clean)])]:
            assert path.name in line, (name, line)
            assert "emove it" in line or "git checkout" in line, (name, line)
        assert path.read_bytes() == damaged
    path.write_bytes(conflicted(content))
    assert "conflict" in line_of(read)
    if path != paths.RAW_DVC:  # which `dvc repro` of a stage does not read
        assert path.name in line_of(lambda: dvc_pipeline.reproduce("validate"))
    assert Path("data/validated/rows").read_text() == "rows"  # what was made stays
    path.unlink()
    if path == paths.DVC_YAML:
        path.write_bytes(content)
    bring_up_to_date()


def test_the_fix_for_a_log_with_a_conflict_is_to_keep_both_sides(project: Path) -> None:
    for which in ("b1", "b2", "b3"):
        record_decision("exclude", which, "bad")
    one, ours, theirs = paths.DECISIONS.read_bytes().splitlines(keepends=True)
    merged = one + b"<<<<<<< HEAD\n" + ours + b"=======\n" + theirs + b">>>>>>> other\n"
    paths.DECISIONS.write_bytes(merged)
    line = line_of(read_decisions)
    assert "data/decisions.jsonl line 2: unresolved merge conflict. Keep the lines of both sides" in line
    kept = [entry for entry in merged.splitlines(keepends=True) if entry.startswith(b"{")]
    paths.DECISIONS.write_bytes(b"".join(kept))
    assert [each.which for each in read_decisions()] == ["b1", "b2", "b3"]


@pytest.mark.parametrize(
    ("path", "read", "whole"),
    [
        (paths.DECISIONS, read_decisions, b'{"what": "drop", "which": "r", "who": "me", "when": "now", "why": ""}\n'),
        (paths.ERASURES, read_erasures, b'{"what": "x"}\n'),
        (paths.ROUND, read_round, b'{"champion": null, "test_epoch": 1, "looks": 0}'),
        (paths.START, read_start, b'{"champion": null, "forms": ["answers"]}'),
        (paths.BASE, read_base, b'{"id": "x"}'),
        (paths.MANIFEST, read_manifest, b'{"batches": []}'),
        (paths.VERDICT, lambda: read_json(paths.VERDICT)["passed"], b'{"passed": true}'),
    ],
    ids=lambda value: str(value) if isinstance(value, Path) else "",
)
def test_what_strop_keeps_beside_the_data_is_named_when_it_is_damaged(
    project: Path, path: Path, read: Callable[[], Any], whole: bytes
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, damaged in [*damages(whole), ("null", b"null\n"), ("text", b'"text"\n')]:
        if path == paths.VERDICT and name in ("list", "null", "text"):
            continue  # JSON all the same: what it holds is for its reader to say
        if path in (paths.DECISIONS, paths.ERASURES) and name == "empty":
            continue  # a log without entries
        path.write_bytes(damaged)
        line = line_of(read)
        assert line.startswith(str(path)), (name, line)
        assert path.read_bytes() == damaged
    path.write_bytes(conflicted(whole))
    assert "conflict" in line_of(read) or path == paths.START


def test_a_file_that_may_not_be_read_is_not_taken_for_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "判定.json"
    assert read_object(path) == {}
    path.write_text("[")
    assert read_object(path) == {}

    def refuse(*_: Any) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    line = line_of(lambda: read_object(path))
    assert line.startswith(f"{path}: this user may not read it (Permission denied)")


def test_a_folder_in_the_place_of_a_file_is_one_line(project: Path, strop: Callable[..., tuple[int, str, str]]) -> None:
    write_params(project, params("base", []))
    for path in (paths.DECISIONS, paths.MANIFEST, paths.DVC_LOCK):
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)
        code, _, err = strop("status")
        assert code == 1
        assert err.startswith(f"strop: {path}: not a file or folder as expected")
        assert err.count("\n") == 1
        path.rmdir()


def test_an_unknown_or_half_written_decision_is_named(project: Path) -> None:
    record_decision("exclude", "b1", "bad")
    for line in (
        b'{"what": "delete", "which": "b", "who": "", "when": "", "why": ""}',
        b'{"what": "drop"',
        b'{"what": 1}',
        b"1",
    ):
        before = paths.DECISIONS.read_bytes()
        paths.DECISIONS.write_bytes(before + line + b"\n")
        assert "data/decisions.jsonl line 2: not a decision" in line_of(read_decisions)
        paths.DECISIONS.write_bytes(before)


def test_what_a_person_writes_names_the_conflict_or_the_place(project: Path, tmp_path: Path) -> None:
    write_params(project, params("base", []))
    template = sorted(paths.TEMPLATES.glob("*.yaml"))[0]
    contract = sorted(paths.CONTRACT.parent.glob("*.yaml"))[0]
    for path, read in (
        (paths.PARAMS, load_config),
        (template, lambda: read_templates(paths.TEMPLATES)),
        (contract, load_contract),
    ):
        shutil.copy(path, tmp_path / "kept")
        for name, damaged in damages(path.read_bytes()):
            if path == contract and name == "empty":
                continue  # a contract without rules
            path.write_bytes(damaged)
            with pytest.raises(StropError) as raised:
                read()
            assert path.name in str(raised.value), name
            if name == "conflict":
                assert "unresolved merge conflict" in str(raised.value)
        shutil.copy(tmp_path / "kept", path)
        read()


def test_a_damaged_report_is_both_a_line_and_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("")
    with pytest.raises(ValueError, match="empty") as raised:
        read_json(tmp_path / "report.json")
    assert isinstance(raised.value, DamagedFile)
    assert isinstance(raised.value, StropError)
