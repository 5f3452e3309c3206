"""Erasing a row: its text is in no file of Strop any more, and everything else stays unchanged. With real git and DVC."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_tiny_gpt2, params, qa_records, set_up_project, topic_records, write_jsonl, write_params
from dataworld import SOURCES, collect
from toyworld import git, set_remote

from flows.cli import main
from tasks import paths
from tasks.audit.file_checks import erasure_note, is_intact_batch
from tasks.curate.settings import CurateSettings
from tasks.curate.sides.split import split_of
from tasks.dataset.read import read_dataset
from tasks.erase import stage
from tasks.erase.stage import erase, resume
from tasks.errors import VersioningError
from tasks.lineage.select_rows import select_rows
from tasks.records.segmentation import normalise
from tasks.runtime.files import read_json
from tasks.state.decisions import read_decisions, record_decision
from tasks.state.erasures import read_erasures
from tasks.state.manifest import read_manifest
from tasks.vcs import dvc_outputs, dvc_pipeline

pytestmark = pytest.mark.usefixtures("warm")

SECRET = "王小明住在长安街九百号"
REFUSED = "Xiaoming's number is hidden in a row that was refused"
NEAR = "Please tell me in one short and plain sentence where the company keeps the keys of the old archive building, number {}"


def run_data() -> str:
    """Up to `render`, pushed; returns the commit."""
    commit = collect("validate", "curate", "render")
    dvc_pipeline.push()
    return commit


def _test_row_first() -> list[int]:
    """Numbers for NEAR: first one that is a test row by itself, then six that are training rows by themselves."""
    settings = CurateSettings()
    shares = settings.split_salt, settings.valid_share, settings.test_share
    by_itself = {n: split_of(normalise(NEAR.format(n)), *shares) for n in range(200)}
    test = next(n for n, split in by_itself.items() if split == "test")
    return [test, *[n for n, split in by_itself.items() if split == "train"][:6]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits with data, pushed; SECRET is in the input of one row and in the output of another."""
    root = tmp_path_factory.mktemp("erase") / "project"
    with pytest.MonkeyPatch.context() as patch:
        set_up_project(root)
        patch.chdir(root)
        set_remote(root.parent / "store")
        make_tiny_gpt2(root / "base")
        write_jsonl(root / "inbox/topic.jsonl", topic_records(40))
        secret = [
            {"instruction": SECRET + "，他叫什么？", "input": "", "output": "王小明。"},
            {"instruction": "谁住在那里？", "input": "", "output": SECRET},
            {"instruction": REFUSED, "input": "", "output": ""},
        ]
        near = [{"instruction": NEAR.format(n), "input": "", "output": f"In drawer {n}."} for n in _test_row_first()]
        write_jsonl(root / "inbox/qa.jsonl", [*qa_records(40), *secret, *near])
        write_params(root, params("base", SOURCES, validate={"data_docs": True, "max_refused_share": 0.5}))
        run_data()
        write_jsonl(root / "inbox/qa-2.jsonl", qa_records(10, start=200))
        run_data()
    return root.parent


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, with a copy of its remote, that the test works in."""
    shutil.copytree(template, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(tmp_path / "world" / "project")
    set_remote(tmp_path / "world" / "store")
    return tmp_path / "world" / "project"


def ids_of(text: str) -> list[str]:
    found = select_rows([], [f"input~{text}"]) + select_rows([], [f"instruction~{text}"])
    return sorted({*found, *select_rows([], [f"output~{text}"])})


def files_with(text: str, *folders: Path) -> list[Path]:
    """Every file that holds the text: as bytes, in a column, or as tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("base")

    def texts(path: Path) -> bool:
        head = path.read_bytes()[:6]
        if head.startswith(b"PAR1"):
            return text in json.dumps(pq.ParquetFile(path).read().to_pylist(), ensure_ascii=False, default=repr)
        if head == b"\x93NUMPY":
            array = np.load(path)
            return array.dtype == np.int32 and text in tokenizer.decode(array.tolist())
        return text.encode() in path.read_bytes() or json.dumps(text).strip('"').encode() in path.read_bytes()

    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if not {".git", "inbox"} & set(path.parts) and texts(path)]


def sides() -> dict[str, str]:
    rows = read_dataset()
    return dict(zip(rows["row_id"].to_pylist(), rows["split"].to_pylist(), strict=True))


def test_no_byte_of_an_erased_row_is_left_in_project_cache_and_remote(world: Path) -> None:
    store = world.parent / "store"
    assert {path.parts[-4] for path in files_with(SECRET, world / ".dvc" / "cache")}, "or this test shows nothing"
    assert files_with(SECRET, store)
    left = Path(".strop/rendering-of-a-killed-run/train.parquet")
    left.parent.mkdir(parents=True)
    left.write_text(SECRET)
    erased = erase(ids_of(SECRET), why="asked to by the person")
    assert erased is not None
    assert erased.remotes == ["store"]
    assert files_with(SECRET, world, store) == []
    run_data()
    assert files_with(SECRET, world, store) == []
    assert not {*erased.plan.ids} & {*sides()}


def test_a_row_in_quarantine_is_erased_too(world: Path) -> None:
    assert files_with(REFUSED, world)
    assert erase(ids_of(REFUSED) or [quarantined(REFUSED)], why="asked to") is not None
    assert files_with(REFUSED, world, world.parent / "store") == []


def quarantined(text: str) -> str:
    for path in (paths.QUARANTINE / "validate").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            if text in row["record"]:
                return str(row["row_id"])
    raise AssertionError


def test_all_other_rows_stay_and_keep_their_split(world: Path) -> None:
    before = sides()
    gone = ids_of(SECRET)
    erase(gone, why="asked to")
    run_data()
    assert sides() == {row_id: side for row_id, side in before.items() if row_id not in gone}


def test_rows_that_followed_an_erased_row_keep_its_split(world: Path) -> None:
    rows = read_dataset()
    leaders = set(rows["group"].to_pylist()) - {""}
    leader = next(each for each in ids_of("old archive building") if each in leaders)
    before = sides()
    assert before[leader] == "test"
    erase([leader], why="asked to")
    run_data()
    after = sides()
    followers = [row["row_id"] for row in rows.to_pylist() if row["group"] == leader]
    assert followers
    assert {each: after[each] for each in followers} == {each: before[each] for each in followers}


def test_the_batch_keeps_its_name_and_the_source_is_not_collected_again(world: Path) -> None:
    before = [(batch.batch, batch.rows) for batch in read_manifest()]
    erase(ids_of(SECRET), why="asked to")
    shutil.rmtree(".strop", ignore_errors=True)  # so that every file is read again
    run_data()
    assert [(batch.batch, batch.rows) for batch in read_manifest()] == before


def test_an_erased_record_from_another_source_is_stored_without_its_text(world: Path) -> None:
    erase(ids_of(SECRET), why="asked to")
    shutil.copy("inbox/qa.jsonl", "inbox/other.jsonl")
    other = {"name": "other", "path": "inbox/other*", "shape": "alpaca", "family": "qa"}
    write_params(world, params("base", [*SOURCES, other], validate={"max_refused_share": 0.5}))
    run_data()
    assert files_with(SECRET, world, world.parent / "store") == []


def test_erased_rows_do_not_count_toward_the_bound_on_refused_rows(world: Path) -> None:
    write_params(world, params("base", SOURCES, validate={"max_refused_share": 0.05}))
    run_data()
    assert all(batch["state"] == "accepted" for batch in read_json(paths.VALIDATE_REPORT)["batches"])
    erase(select_rows([], ["family=qa"])[:20], why="asked to")
    run_data()
    report = read_json(paths.VALIDATE_REPORT)
    assert all(batch["state"] == "accepted" for batch in report["batches"])
    lines = [row for p in (paths.QUARANTINE / "validate").glob("*.parquet") for row in pq.read_table(p).to_pylist()]
    assert sum(row["reason"] == "erased" for row in lines) == 20
    assert report["rows"] == report["accepted"] + len(lines)


def test_an_audit_reports_lawfully_erased(world: Path) -> None:
    commit = git("rev-parse", "HEAD~1").strip()
    then = {batch.batch: batch for batch in read_manifest()}
    erase(ids_of(SECRET), why="asked to by the person")
    files = dvc_outputs.stored_files(commit, paths.RAW)
    assert "2 rows lawfully erased, not rebuildable" in erasure_note(files)
    assert "asked to by the person" in erasure_note(files)
    changed = [file for file in files if file.erasure]
    assert len(changed) == 1
    assert is_intact_batch(changed[0].path, then[Path(changed[0].relpath).stem].__dict__, changed[0].erasure)
    assert erasure_note(dvc_outputs.stored_files("HEAD", paths.CURATED)) == "", "no text of theirs stood there"


def test_an_empty_record_without_an_erasure_is_damage(world: Path) -> None:
    """Only records that data/erasures.jsonl names may lack their text."""
    from dataclasses import asdict, replace

    from tasks.runtime.files import file_digest

    erase(ids_of(SECRET), why="asked to")
    batch = next(batch for batch in read_manifest() if batch.source == "topic")
    table = pq.ParquetFile(batch.path).read()
    for name, value in (("record", None), ("error", "erased")):
        column = pa.array([value, *table[name].to_pylist()[1:]], pa.string())
        table = table.set_column(table.schema.get_field_index(name), name, column)
    batch.path.unlink()
    pq.write_table(table, batch.path)
    assert not is_intact_batch(batch.path, asdict(replace(batch, sha256=file_digest(batch.path))), None)


def test_an_old_version_can_still_be_read_except_for_the_erased_rows(world: Path, monkeypatch: Any) -> None:
    from tasks.lineage import version_data

    commit = git("rev-parse", "HEAD~1").strip()
    monkeypatch.setattr(version_data, "registered_versions", lambda model: [1])
    monkeypatch.setattr(version_data, "commit_of", lambda model, version: commit)
    erase(ids_of(SECRET), why="asked to")
    shutil.rmtree(".dvc/cache")  # as in another clone: all comes from the remote
    parts = version_data.parts_of("tiny", "v1")
    rows = sum(part.rows.num_rows for part in parts.values())
    assert rows > 60
    texts = [row["input"] for part in parts.values() for row in version_data.text_of(part, part.rows).to_pylist()]
    assert len(texts) == rows


def test_an_interrupted_erasure_is_completed_by_the_next(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("_rewrite_raw", "_replace_objects", "_clear_outputs", "_clear_caches"):
        with monkeypatch.context() as patch:
            patch.setattr(stage, name, _killed)
            with pytest.raises(KeyboardInterrupt):
                resume() if paths.ERASING.exists() else erase(ids_of(SECRET), why="asked to")
    assert main.run(["rows", "forget", "--erase"]) == 0
    assert "the erasure is complete" in capsys.readouterr().out
    assert files_with(SECRET, world, world.parent / "store") == []
    assert len(read_erasures()) == len({each.old for each in read_erasures()})


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_an_unreachable_remote_is_reported_and_the_next_erasure_completes_it(world: Path) -> None:
    store = world.parent / "store"
    store.rename(store.with_name("away"))
    store.write_text("in the way")
    with pytest.raises(VersioningError, match="are still in a DVC remote"):
        erase(ids_of(SECRET), why="asked to")
    store.unlink()
    store.with_name("away").rename(store)
    assert resume() is not None
    assert files_with(SECRET, world, store) == []
    assert resume() is None


def test_rows_made_from_an_erased_row_are_erased_too(world: Path) -> None:
    (parent,) = ids_of("谁住在那里")
    recipe = {"recipe": "reword", "parents": [parent]}
    made = {"instruction": "谁？", "input": "", "output": "王小明，九百号", "strop_synthetic": recipe}
    write_jsonl(world / "inbox/qa-3.jsonl", [made])
    run_data()
    erased = erase([parent], why="asked to")
    assert erased is not None
    assert len(erased.plan.ids) == 2
    assert files_with("王小明，九百号", world, world.parent / "store") == []


def test_the_command_reports_what_it_erased_and_what_it_cannot_erase(
    world: Path, capsys: Any, monkeypatch: Any
) -> None:
    from tasks.lineage import row_history

    monkeypatch.setattr(row_history, "registered_versions", lambda model: [])
    ids = ids_of(SECRET)
    assert main.run(["rows", "forget", *ids, "--erase", "--dry-run"]) == 0
    assert "2 rows would be erased" in capsys.readouterr().out
    assert files_with(SECRET, paths.RAW)
    assert main.run(["rows", "forget", *ids, "--erase", "--why", "asked to"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 rows are erased" in out
    assert "remote store" in out
    assert "backups" in out
    assert main.run(["rows", "why", ids[0]]) == 0
    assert "was erased" in capsys.readouterr().out
    assert main.run(["rows", "forget", "--erase"]) == 0
    assert "No erasure was interrupted" in capsys.readouterr().out


def test_without_a_reason_nothing_is_erased(world: Path, capsys: Any) -> None:
    assert main.run(["rows", "forget", ids_of(SECRET)[0], "--erase"]) == 1
    assert "a reason is missing" in capsys.readouterr().err
    assert files_with(SECRET, paths.RAW)


def test_forgotten_rows_can_be_erased_later(world: Path) -> None:
    ids = ids_of(SECRET)
    for row_id in ids:
        record_decision("forget", row_id, "not wanted")
    run_data()
    assert files_with(SECRET, world)
    erase(ids, why="asked to")
    assert files_with(SECRET, world, world.parent / "store") == []


def test_two_rows_of_one_batch_may_be_erased_one_after_the_other(world: Path) -> None:
    """The first erasure changes the files in which rows are searched."""
    refused = quarantined(REFUSED)
    erase([ids_of(SECRET)[0]], why="asked to")
    erase([refused], why="asked to")
    erase(ids_of(SECRET), why="asked to")
    for text in (SECRET, REFUSED):
        assert files_with(text, world, world.parent / "store") == []


def test_the_same_record_in_another_family_is_erased_too(world: Path) -> None:
    shutil.copy("inbox/qa.jsonl", "inbox/other.jsonl")
    other = {"name": "other", "path": "inbox/other*", "shape": "alpaca", "family": "instruction"}
    write_params(world, params("base", [*SOURCES, other], validate={"max_refused_share": 0.5}))
    run_data()
    erase(ids_of(SECRET)[:1] + ids_of(SECRET)[1:2], why="asked to")
    run_data()
    assert files_with(SECRET, world, world.parent / "store") == []


def test_a_row_that_is_collected_again_in_another_record_can_be_erased_again(world: Path) -> None:
    row_id = ids_of(SECRET + "，他叫什么")[0]
    erase(ids_of(SECRET), why="asked to")
    run_data()
    again = {"instruction": SECRET + "，他叫什么？", "input": "", "output": "王小明。", "time": "12:00"}
    write_jsonl(world / "inbox/qa-4.jsonl", [again])
    run_data()
    assert files_with(SECRET, paths.RAW)
    assert erase([row_id], why="asked to") is not None
    assert files_with(SECRET, world, world.parent / "store") == []


def test_objects_that_only_a_remote_has_are_removed_too(world: Path) -> None:
    store = world.parent / "store"
    shutil.rmtree(".dvc/cache")
    for folder in (paths.RENDERED, paths.PREDICTIONS):
        shutil.rmtree(folder, ignore_errors=True)
    erase(ids_of(SECRET), why="asked to")
    assert files_with(SECRET, world, store) == []


def test_a_reason_may_contain_any_character(world: Path) -> None:
    erase(ids_of(SECRET)[:1], why="asked\u2028to\u0085by")
    assert read_erasures()[-1].why == "asked\u2028to\u0085by"
    assert read_decisions()[-1].why
    erase(ids_of(SECRET), why="asked to")


def test_a_dry_run_finishes_nothing(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_rewrite_raw", _killed)
        with pytest.raises(KeyboardInterrupt):
            erase(ids_of(SECRET), why="asked to")
    assert main.run(["rows", "forget", "--erase", "--dry-run"]) == 0
    assert "was interrupted" in capsys.readouterr().out
    assert files_with(SECRET, paths.RAW)
