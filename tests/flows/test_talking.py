"""`strop generate` and `strop chat` with models that do not generate text: a label for a text, or a one-line error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.project import begin_round, params, write_params

from flows import load_model as loading
from tasks import paths
from tasks.base.heads import head_logits, text_ids
from tasks.base.load import load_base, load_tokenizer
from tasks.base.pin import read_base
from tasks.config import load_config
from tasks.model_store import versions
from tasks.model_store.ledger import Entry
from tasks.runtime.files import write_json

Strop = Callable[..., tuple[int, str, str]]
LABELS = ("business", "体育", "tech")


@pytest.fixture(autouse=True)
def served(project: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1, a head of labels with random weights, is champion."""
    write_params(project, params(tiny_bert, [], finetune={"objective": "classify"}))
    begin_round(load_config())
    load_base(read_base(), labels=LABELS).save_pretrained(paths.MODEL)
    load_tokenizer(tiny_bert, generates=False).save_pretrained(paths.MODEL)
    write_json(paths.MODEL / "labels.json", list(LABELS))
    facts = {"weights_digest": "d", "receipt": "r", "verdict": "v", "dataset": "x", "passed": True, "why": ""}
    more = {"test_epoch": 1, "test_rows": 9, "who": "li", "when": "2026-01-01T00:00:00Z"}
    entries = [Entry(kind=kind, version=1, **facts, **more) for kind in ("judged", "promoted")]  # type: ignore[arg-type]
    monkeypatch.setattr(loading, "read_ledger", lambda _: entries)
    monkeypatch.setattr(versions, "weights_folder", lambda *_: paths.MODEL)


def test_a_text_gets_its_label_and_the_labels_probability(strop: Strop) -> None:
    code, out, _ = strop("generate", "The match 进球了", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["model"] == "champion, version 1"
    assert set(result["labels"]) == set(LABELS)
    assert sum(result["labels"].values()) == pytest.approx(1)
    assert result["probability"] == max(result["labels"].values()) == result["labels"][result["label"]]
    model = loading.load_model(load_config(), "champion", must_generate=False).model
    ids, _ = text_ids(load_tokenizer(paths.MODEL, generates=False), ["The match 进球了"], 128)[0]
    logits = head_logits(model, [ids], 1)[0]
    assert result["label"] == LABELS[logits.index(max(logits))]
    code, out, _ = strop("generate", "The match 进球了")
    assert out.split() == [result["label"], f"{result['probability']:.1%}"]


def test_a_text_longer_than_the_model_reads_gets_a_label_too(strop: Strop) -> None:
    code, out, _ = strop("generate", "news " * 2000)
    assert code == 0
    assert out.split()[0] in LABELS


def test_a_classifier_does_not_chat(strop: Strop) -> None:
    code, _, err = strop("chat")
    assert code == 1
    assert "champion, version 1 is a classifier (business, 体育, tech): it does not generate text" in " ".join(
        err.split()
    )
    assert "strop generate" in err


@pytest.mark.parametrize("command", [("generate", "Hello"), ("chat",)], ids=" ".join)
def test_a_reward_model_is_reported_as_such(command: tuple[str, ...], strop: Strop) -> None:
    write_json(paths.MODEL / "labels.json", ["reward"])
    code, _, err = strop(*command)
    assert code == 1
    assert "is a reward model: it does not generate text" in " ".join(err.split())


def test_a_base_without_a_head_is_reported(strop: Strop) -> None:
    code, _, err = strop("generate", "Hello", "--to", "base")
    assert code == 1
    assert "the base has no classification head yet" in " ".join(err.split())
