"""The demo's rounds on a tiny model: the gate refuses a batch with shuffled labels, and not the same batch with true labels."""

from __future__ import annotations

import random
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from support.project import params, set_up_project, write_params
from support.toy_rows import SECTIONS, write_part

from flows.demo.rounds import spoil
from tasks import paths
from tasks.base.pin import pin_base
from tasks.base.weights_digest import weights_digest
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.evaluate.stage import run as evaluate
from tasks.finetune.stage import run as finetune
from tasks.gate.stage import run as gate
from tasks.records.row import row_id_of
from tasks.render.stage import run as render
from tasks.runtime.files import read_json
from tasks.state.round import Champion, Round, write_round


def plain_articles(count: int) -> list[dict[str, str]]:
    """Articles in which every word tells the section, and nothing tells one batch from another."""
    draw = random.Random(0)
    records: dict[str, str] = {}
    while len(records) < count:
        section = draw.choice(sorted(SECTIONS))
        records[" ".join(draw.choices(SECTIONS[section], k=6))] = section
    return [{"text": text, "label": section} for text, section in records.items()]


RECORDS = plain_articles(1140)


def as_rows(records: list[dict[str, str]], batch: str) -> list[dict[str, Any]]:
    rows = []
    for index, record in enumerate(records):
        row: dict[str, Any] = {"family": "topic", "language": "en", "system": "", "history": "[]", "instruction": ""}
        row |= {"input": record["text"], "output": record["label"], "batch": batch, "index": index, "source": "news"}
        row |= {"file": "news.jsonl", "line": index + 1}
        rows.append({**row, "row_id": row_id_of(row)})
    return rows


def train(config: PipelineConfig) -> str:
    for room in (curate, render, finetune):
        room(config)
    return weights_digest(paths.MODEL)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A project whose champion was trained on true labels; both tests go on from a copy."""
    root = tmp_path_factory.mktemp("served") / "project"
    set_up_project(root)
    settings = {
        "method": "full",
        "max_steps": None,
        "epochs": 6.0,
        "learning_rate": 3e-3,
        "precision": "fp32",
        "evaluations_per_epoch": 0,
    }
    write_params(
        root, params(tiny_llama, [], finetune=settings, gate={"margin": 0.1}, render={"pack_length_tokens": 512})
    )
    with chdir(root):
        config = load_config()
        pin_base(config.base)
        write_part(as_rows(RECORDS[:240], "b1"), "000001-b1.parquet")
        digest = train(config)
        shutil.copytree(paths.MODEL, paths.MODELS / digest)
        write_round(Round(Champion(1, digest, ("b1",)), test_epoch=1, looks=1))
    return root


@pytest.mark.parametrize("labels", [pytest.param("true", marks=pytest.mark.slow), "shuffled"])
def test_the_gate_refuses_a_bad_batch_and_not_a_good_one(
    labels: str, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(served, tmp_path / "project", symlinks=True))
    config = load_config()
    fresh = RECORDS[240:]
    batch = [r for r in spoil(fresh) if r.get("text", " ") in {f["text"] for f in fresh} and "label" in r]
    write_part(as_rows(fresh if labels == "true" else batch, "b2"), "000002-b2.parquet")
    train(config)
    evaluate(config)
    gate(config)
    verdict = read_json(paths.VERDICT)
    (check,) = [c for c in verdict["checks"] if c["name"] == "no_regression/topic"]
    scores = {role: m["families"]["topic"]["score"] for role, m in read_json(paths.METRICS)["models"].items()}
    if labels == "true":
        assert check["passed"], (check, scores)
    else:
        assert not verdict["passed"]
        assert check["passed"] is False
        assert check["interval"][1] < -0.1, (check, scores)
