"""`strop explain` from the command line: a model of the last run, a row or a prompt, the files, and the errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.deciding_word import WORDS, make_decided_llama
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part
from support.toypreferences import preference_rows

from tasks import paths
from tasks.base.heads import REWARD
from tasks.base.load import load_base, load_tokenizer
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.explain import captum_import
from tasks.runtime.files import write_json

Strop = Callable[..., tuple[int, str, str]]
LABELS = ("business", "sport", "科技")
PROMPTS = {"en": "The door and the bank were closed, said the man.", "zh": "门和红灯都关了，他说。"}


def world(
    base: Path, labels: tuple[str, ...] | None = None, rows: list[dict[str, Any]] | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Toy rows in the dataset, and a candidate with the weights of the base. Returns the rows."""
    write_params(Path(), params(base, [], finetune=settings))
    config = load_config()
    begin_round(config)
    rows = rows or toy_rows(topics=4, questions=4)
    write_part(rows)
    curate(config)
    load_base(read_base(), labels=labels).save_pretrained(paths.MODEL)
    load_tokenizer(base, generates=labels in (None, REWARD)).save_pretrained(paths.MODEL)
    if labels is not None:
        write_json(paths.MODEL / "labels.json", list(labels))
    write_json(paths.METRICS, {"models": {"candidate": {"weights_digest": weights_digest(paths.MODEL)}}})
    return rows


def flat(text: str) -> str:
    return " ".join(text.split())


def test_an_answer_is_explained_by_the_word_that_decides_it(project: Path, strop: Strop) -> None:
    rows = world(make_decided_llama(project / "decided"))
    for language, text in PROMPTS.items():
        code, out, err = strop("explain", "--prompt", text, "--version", "candidate", "--json")
        assert code == 0, err
        result = json.loads(out)
        assert result["output"] == "A", language
        (attribution,) = result["attributions"]
        spans = attribution["fields"]["prompt"]
        assert "".join(span["text"] for span in spans) == text
        largest = max(spans, key=lambda span: span["value"] or 0)
        assert largest["text"].strip() == WORDS[language].strip()
        assert largest["value"] > 1
        assert sum(largest["by_piece"]) == pytest.approx(largest["value"])
        assert max(abs(span["value"] or 0) for span in spans if span is not largest) < largest["value"] / 5
        assert [piece["is_end"] for piece in result["answer"]] == [False, True]
    row = next(row for row in rows if row["family"] == "qa" and row["language"] == "zh")
    texts = []
    for _ in range(2):
        code, out, err = strop("explain", row["row_id"][:8], "--version", "candidate")
        assert code == 0, err
        texts.append((paths.EXPLANATIONS / "candidate" / f"{row['row_id']}.html").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert "Of the whole answer" in flat(out)
    assert row["output"] in out
    assert re.sub("<[^>]+>", "", texts[0]).count(row["instruction"]) >= 1
    assert (paths.EXPLANATIONS / "candidate" / f"{row['row_id']}.svg").is_file()
    code, out, err = strop(
        "explain", row["row_id"], "--version", "candidate", "--out", "else/where.html", "--passes", "2"
    )
    assert code == 0, err
    assert sorted(path.name for path in (project / "else").iterdir()) == ["where.html", "where.svg"]


def test_a_label_is_explained_towards_the_predicted_and_the_rows_own(
    project: Path, tiny_bert: Path, strop: Strop
) -> None:
    rows = world(tiny_bert, LABELS, objective="classify")
    sport = next(row for row in rows if row["output"] == "sport")
    code, out, err = strop("explain", sport["row_id"], "--version", "candidate", "--label", "科技", "--json")
    assert code == 0, err
    result = json.loads(out)
    titles = [attribution["title"] for attribution in result["attributions"]]
    assert len(titles) == len(set(titles)) >= 2
    assert sum("sport" in title for title in titles) == sum("科技" in title for title in titles) == 1
    for attribution in result["attributions"]:
        (spans,) = attribution["fields"].values()
        total = sum(span["value"] or 0 for span in spans)
        assert total == pytest.approx(float(attribution["facts"]["difference"]), abs=2e-3)
        assert attribution["warning"] == ""
    other = next(row for row in rows if row["output"] == "tech")
    code, out, err = strop("explain", other["row_id"], "--version", "candidate")
    assert code == 0, err
    assert "The row's label 'tech' is none of the head's: business, sport, 科技." in flat(out)
    code, _, err = strop("explain", sport["row_id"], "--version", "candidate", "--label", "weather")
    assert (code, "has no such label; it has business, sport, 科技" in flat(err)) == (1, True)


def test_a_reward_is_explained_for_the_chosen_and_the_rejected_answer(
    project: Path, tiny_llama: Path, strop: Strop
) -> None:
    rows = preference_rows(pairs=4, judged=0)
    world(tiny_llama, REWARD, rows, objective="reward")
    code, out, err = strop("explain", rows[1]["row_id"], "--version", "candidate", "--json")
    assert code == 0, err
    result = json.loads(out)
    for attribution, answer in zip(result["attributions"], ("它叫城市1。", "我不想说。"), strict=True):
        (spans,) = attribution["fields"].values()
        assert answer in "".join(span["text"] for span in spans)
        assert attribution["warning"] == ""
    assert result["output"].startswith("chosen answer: ")
    code, _, err = strop("explain", "--prompt", "x", "--version", "candidate")
    assert (code, "candidate scores answers, and a prompt has none" in flat(err)) == (1, True)


def test_errors_say_what_is_wrong_and_what_to_do(
    project: Path, tiny_llama: Path, strop: Strop, monkeypatch: Any
) -> None:
    rows = world(tiny_llama)
    row_id = rows[0]["row_id"]
    mistyped = row_id[:7] + ("0" if row_id[7] != "0" else "1")
    for arguments, words in {
        (mistyped,): f"no row's id begins so. Ids that begin like it: {row_id}",
        ("abc",): "is too short to name a row",
        (row_id, "--version", "9"): "9: no such version. Name one of base, champion",
        (row_id,): "champion: no version serves yet",
        (row_id, "--version", "candidate", "--label", "x"): "candidate generates text: it has no labels",
        ("--prompt", "word " * 600, "--version", "candidate"): "exceed the context of 512 tokens",
    }.items():
        code, _, err = strop("explain", *arguments)
        assert code == 1
        assert words in flat(err)
    assert strop("explain")[0] == strop("explain", row_id, "--prompt", "x")[0] == 2
    assert "a text by --prompt" in flat(strop("explain", "--prompt", " ")[2])
    assert strop("explain", row_id, "--out", "page.svg")[0] == 2
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(captum_import.ConfigError, match="make setup"):
        captum_import.captum_attr()
