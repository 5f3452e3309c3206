"""The training start: the champion whose training continues, and the versions and folders of teachers and reward models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import toyworld
from support.toy_rows import qa_records, write_jsonl
from support.toyworld import set_params

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.errors import BaseModelError, DataError
from tasks.ingest import stage as ingest
from tasks.ingest.open_round import open_round
from tasks.lineage.version_data import ancestors_of
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.promote.stage import promote
from tasks.state.decisions import record_decision
from tasks.state.manifest import read_manifest
from tasks.state.round import read_round
from tasks.state.training_start import Start, read_start, version_folder


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 was judged against it, and is in data/model."""
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def begin(seed: int = 3, **finetune: Any) -> Start:
    set_params(finetune={"seed": seed, **finetune})
    ingest.run(load_config())
    return read_start()


def champion_digest() -> str:
    champion = champion_of(read_ledger("tiny"))
    assert champion is not None
    return champion.weights_digest


def test_as_a_rule_it_is_the_base_and_answers_are_trained(world: Path) -> None:
    assert begin() == Start()


def test_with_a_new_batch_the_champion_is_trained_on(world: Path) -> None:
    batches = tuple(batch.batch for batch in read_manifest())
    write_jsonl(Path("inbox/two.jsonl"), qa_records(6, start=50))
    start = begin(continue_from="champion", replay_share=0.3)
    assert start.champion is not None
    assert (start.champion.weights_digest, start.champion.batches) == (champion_digest(), batches)
    assert start.replay_share == 0.3
    assert weights_digest(paths.MODELS / start.champion.weights_digest) == start.champion.weights_digest


def test_without_a_new_batch_it_begins_as_the_champion_did(world: Path) -> None:
    assert begin(continue_from="champion").champion is None  # the champion was begun from the base


def test_an_excluded_batch_is_none_to_train_on(world: Path) -> None:
    write_jsonl(Path("inbox/two.jsonl"), qa_records(6, start=50))
    begin(continue_from="champion")
    record_decision("exclude", read_manifest()[-1].batch, "bad")
    assert begin(seed=2, continue_from="champion").champion is None


def test_before_there_is_a_champion_the_base_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toyworld.stand_in("judged", tmp_path, monkeypatch)
    assert begin(continue_from="champion").champion is None


@pytest.mark.parametrize("event", ["promotion", "rejudge"])
def test_neither_a_promotion_nor_judging_again_changes_it(event: str, world: Path) -> None:
    write_jsonl(Path("inbox/two.jsonl"), qa_records(6, start=50))
    begin(continue_from="champion")
    toyworld.run_stages()
    before = paths.START.read_bytes()
    promote(load_config(), 2, why="passed", expected_champion=1)
    open_round(load_config(), rejudge=event == "rejudge")
    assert paths.START.read_bytes() == before


def test_a_version_records_its_training_start(world: Path) -> None:
    write_jsonl(Path("inbox/two.jsonl"), qa_records(6, start=50))
    set_params(finetune={"seed": 3, "continue_from": "champion"})
    toyworld.run_stages()
    assert toyworld.register().version == 3
    assert [ancestors_of("tiny", version) for version in (1, 2, 3)] == [[], [], [1]]


def test_the_forms_are_those_that_the_trainings_need(world: Path) -> None:
    start = begin(objective="grpo", before=[{"objective": "sft"}, {"objective": "dpo"}])
    assert start.forms == ("answers", "pairs", "prompts")


@pytest.mark.parametrize("name", ["champion", "1", "v2"])
def test_a_teacher_that_is_a_version_is_fixed_and_fetched(name: str, world: Path) -> None:
    shutil.rmtree(paths.MODELS)
    start = begin(objective="distill", distill={"teacher": name})
    folder = version_folder(name)
    assert folder == paths.MODELS / start.versions[name]
    assert weights_digest(folder) == start.versions[name]
    assert (start.versions[name] == champion_digest()) == (name != "v2")


def test_a_teacher_that_there_is_not_is_named(world: Path) -> None:
    with pytest.raises(DataError, match="neither a folder 7 nor a version 7 of tiny"):
        begin(objective="distill", distill={"teacher": "7"})


def test_a_teacher_s_folder_that_changes_after_the_round_began_is_reported(world: Path) -> None:
    begin(objective="distill", distill={"teacher": "adapters/1"})
    assert version_folder("adapters/1") == Path("adapters/1")
    (Path("adapters/1") / "templates.json").write_text("[]")
    with pytest.raises(DataError, match="have changed since the round began"):
        version_folder("adapters/1")


def test_the_next_ingestion_takes_a_teacher_s_folder_as_it_is_now(world: Path) -> None:
    before = begin(objective="distill", distill={"teacher": "adapters/1"})
    toyworld.run_stages()
    (Path("adapters/1") / "templates.json").write_text("[]")
    ingest.run(load_config())
    assert read_start().folders != before.folders
    assert version_folder("adapters/1") == Path("adapters/1")


def test_a_model_of_another_name_begins_without_the_champion_of_this_one(world: Path) -> None:
    write_jsonl(Path("inbox/two.jsonl"), qa_records(6, start=50))
    begin(continue_from="champion")
    toyworld.run_stages()
    set_params(finetune={"seed": 3, "continue_from": "champion"}, register={"model_name": "other"})
    ingest.run(load_config())
    assert read_start().champion is None
    assert read_round().champion is None


def test_a_champion_of_other_weights_under_the_same_name_is_refused_before_any_work(world: Path) -> None:
    base = Path(json.loads(paths.BASE.read_text())["id"])
    copied = shutil.copytree(base, world / "moved")
    set_params(base=Path("moved"))
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    paths.BASE.unlink()
    with pytest.raises(BaseModelError, match="was trained from another base"):
        ingest.run(load_config())


@pytest.mark.parametrize("continue_from", ["base", "champion"])
def test_a_champion_that_does_something_else_is_refused_before_any_work(continue_from: str, world: Path) -> None:
    with pytest.raises(BaseModelError, match="generates, and the candidate classifies"):
        begin(objective="classify", continue_from=continue_from)


def test_a_damaged_file_is_reported(world: Path) -> None:
    paths.START.write_text("{")
    with pytest.raises(DataError, match=r"damaged .* rm data/start\.json"):
        read_start()
