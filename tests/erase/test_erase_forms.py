"""An erasure finds every form of rendered rows, and soft targets of a teacher: they contain the text or its tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import paths
from tasks.erase import objects
from tasks.erase.objects import objects_with_text
from tasks.erase.plan import Plan
from tasks.erase.rewrite import has_text
from tasks.erase.stage import _clear_caches
from tasks.runtime.files import write_json, write_parquet

PLAN = Plan(["r1"], ["d1"], ["b1"], [], [], "ann", "2026-11-22T10:00:00+00:00", "asked for")


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt_ids": [[1, 2]], "chosen_ids": [[3]], "rejected_ids": [[4]]},
        {"prompt_ids": [[1, 2]], "answer_ids": [[3]], "desirable": [True]},
        {"prompt_ids": [[1, 2]], "target": ["Ann"], "kind": ["qa"]},
        {"probe": ["typos"], "prompt": ["Wo is Ann?"], "prediction": ["Ann"]},
    ],
    ids=["pairs", "judged", "prompts", "probes"],
)
def test_rendered_rows_of_a_form_are_found_by_their_ids(columns: dict[str, Any], tmp_path: Path) -> None:
    for row_id, is_found in (("r1", True), ("r2", False)):
        write_parquet(tmp_path / f"{row_id}.parquet", pa.table({"row_id": [row_id], **columns}))
        assert has_text(tmp_path / f"{row_id}.parquet", PLAN) is is_found


def test_soft_targets_and_checkpoints_are_removed(project: Path) -> None:
    for folder in (paths.SOFT_TARGETS / "teacher", paths.CHECKPOINTS / "key/training-1/soft-targets"):
        folder.mkdir(parents=True)
        (folder / "targets").write_bytes(b"likeliest tokens")
    _clear_caches(PLAN)
    assert not paths.SOFT_TARGETS.exists()
    assert not paths.CHECKPOINTS.exists()


def test_bases_with_labels_are_removed_and_others_stay(project: Path) -> None:
    for name in ("labels-ab12", "ab12"):
        (paths.BASES / name).mkdir(parents=True)
        (paths.BASES / name / "config.json").write_text('{"id2label": {"0": "AnnIsIll"}}')
    _clear_caches(PLAN)
    assert [folder.name for folder in paths.BASES.iterdir()] == ["ab12"]


class Store:
    """DVC's cache with versions in it, each a lock's outputs, without DVC."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = str(folder)
        self.versions: dict[str | None, dict[str, str]] = {None: {}}
        self.cache = SimpleNamespace(local=self)
        monkeypatch.setattr(objects, "_commits", lambda: [name for name in self.versions if name])
        monkeypatch.setattr(objects, "output_hashes", lambda commit: self.versions[commit])

    def oid_to_path(self, md5: str) -> str:
        return f"{self.path}/{md5[:2]}/{md5[2:]}"

    def put(self, content: bytes) -> str:
        md5 = hashlib.md5(content).hexdigest()
        place = Path(self.oid_to_path(md5))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return md5

    def keep(self, version: str, output: Path, folder: Path) -> dict[str, str]:
        """Keeps a folder as an output of a version; returns place → md5."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        result = {path.relative_to(folder).as_posix(): self.put(path.read_bytes()) for path in files}
        listing = [{"relpath": name, "md5": md5} for name, md5 in result.items()]
        digest = f"{hashlib.md5(json.dumps(listing).encode()).hexdigest()}.dir"
        place = Path(self.oid_to_path(digest))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(listing))
        self.versions.setdefault(version, {})[output.as_posix()] = digest
        return result

    def held(self) -> set[str]:
        repo: Any = self
        return {each.md5 for each in objects_with_text(repo, PLAN)}


@pytest.fixture
def store(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path / "cache", monkeypatch)


def test_answers_to_probes_that_only_a_remote_has_are_removed_with_their_version(store: Store, tmp_path: Path) -> None:
    for row_id in ("r1", "r2"):
        for name in ("candidate", "probes/candidate"):
            write_parquet(tmp_path / row_id / f"{name}.parquet", pa.table({"row_id": [row_id], "prompt": [name]}))
    away = store.keep("v1", paths.PREDICTIONS, tmp_path / "r1")
    store.keep("v2", paths.PREDICTIONS, tmp_path / "r2")
    for md5 in away.values():
        Path(store.oid_to_path(md5)).unlink()
    assert store.held() == set(away.values())


def test_prompts_of_no_version_that_may_quote_the_row_are_removed(store: Store, tmp_path: Path) -> None:
    def put(**columns: Any) -> str:
        write_parquet(
            tmp_path / "file.parquet", pa.table({"row_id": ["r2"], "prompt": ["Ann is ill. Who?"], **columns})
        )
        return store.put((tmp_path / "file.parquet").read_bytes())

    put()
    quoting = {put(shots=[1]), put(probe=["distraction"])}
    assert store.held() == quoting


def labelled(folder: Path, rows: list[tuple[str, str]], known: tuple[str, ...] = ()) -> Path:
    """data/rendered of form `labels`, of these rows: id, label."""
    names = sorted({label for _, label in rows} | {*known})
    train = folder / "labels/train"
    train.mkdir(parents=True)
    write_json(folder / "labels/labels.json", names)
    write_json(folder / "labels/commonest.json", {"topic": rows[0][1]})
    np.save(train / "ids.npy", np.array([row_id for row_id, _ in rows], "S32"))
    np.save(train / "labels.npy", np.array([names.index(label) for _, label in rows], np.int32))
    np.save(train / "input_ids.npy", np.arange(len(rows) + len(names), dtype=np.int32))
    return folder


def test_a_label_name_that_only_erased_rows_have_is_removed_and_others_stay(store: Store, tmp_path: Path) -> None:
    first = store.keep("v1", paths.RENDERED, labelled(tmp_path / "1", [("r1", "AnnIsIll"), ("r2", "sport")]))
    kept = store.keep("v2", paths.RENDERED, labelled(tmp_path / "2", [("r2", "sport")]))
    known = store.keep("v3", paths.RENDERED, labelled(tmp_path / "3", [("r2", "sport"), ("r3", "art")], ("AnnIsIll",)))
    of_none = store.put(b'["AnnIsIll", "tech"]')
    names = "labels/labels.json", "labels/commonest.json"
    expected = {first[name] for name in names} | {known[names[0]], first["labels/train/input_ids.npy"], of_none}
    assert store.held() == expected
    assert not {kept[name] for name in names} & expected


def test_label_names_stay_if_another_row_has_the_label(store: Store, tmp_path: Path) -> None:
    first = store.keep("v1", paths.RENDERED, labelled(tmp_path / "1", [("r1", "sport"), ("r2", "art")]))
    store.keep("v2", paths.RENDERED, labelled(tmp_path / "2", [("r2", "art"), ("r3", "sport")]))
    assert store.held() == {first["labels/train/input_ids.npy"]}


def test_label_names_that_a_model_has_too_stay(store: Store, tmp_path: Path) -> None:
    first = store.keep("v1", paths.RENDERED, labelled(tmp_path / "1", [("r2", "sport"), ("r1", "AnnIsIll")]))
    write_json(tmp_path / "model/labels.json", ["AnnIsIll", "sport"])
    model = store.keep("v1", paths.MODEL, tmp_path / "model")
    assert model["labels.json"] == first["labels/labels.json"]
    assert model["labels.json"] not in store.held()


def test_label_files_that_only_a_remote_has_are_removed_unread(store: Store, tmp_path: Path) -> None:
    first = store.keep("v1", paths.RENDERED, labelled(tmp_path / "1", [("r1", "AnnIsIll"), ("r2", "sport")]))
    for md5 in first.values():
        Path(store.oid_to_path(md5)).unlink(missing_ok=True)
    assert {first["labels/labels.json"], first["labels/commonest.json"]} <= store.held()


@pytest.mark.parametrize("form", ["pairs", "ranked", "judged", "prompts"])
def test_rendered_rows_that_only_a_remote_has_are_removed_whatever_dataset_the_lock_names(
    form: str, store: Store, tmp_path: Path
) -> None:
    for row_id in ("r1", "r2"):
        for part in (f"{form}/train", "test"):
            table = pa.table({"row_id": [row_id], "prompt_ids": [[1, len(part)]]})
            write_parquet(tmp_path / row_id / f"{part}.parquet", table)
    away = store.keep("v1", paths.RENDERED, tmp_path / "r1")
    here = store.keep("v2", paths.RENDERED, tmp_path / "r2")
    for md5 in (*away.values(), here["test.parquet"]):
        Path(store.oid_to_path(md5)).unlink()
    assert store.held() == set(away.values()), "objects here with row ids were read"
