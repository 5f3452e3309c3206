"""`strop generate --family`: a version answers the fields of a row as it did in its evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_jsonl
from support.toy_training import prepare

from flows import load_model as loading
from tasks import paths
from tasks.base import precision
from tasks.base.heads import REWARD, head_logits
from tasks.base.load import load_base, load_tokenizer, load_trained
from tasks.base.pin import read_base
from tasks.config import load_config
from tasks.dataset.read import read_dataset
from tasks.dataset.rendered import TEST
from tasks.evaluate import stage as evaluate
from tasks.finetune import stage as finetune
from tasks.model_store import versions
from tasks.model_store.ledger import Entry
from tasks.prompts.family_prompts import FamilyPrompts
from tasks.prompts.templates.conversation import request_of
from tasks.prompts.templates.templates import read_templates
from tasks.runtime.files import read_json, write_json
from tasks.state.round import Round, write_round

Strop = Callable[..., tuple[int, str, str]]
LABELS = ("business", "体育", "tech")
CHINESE = "第7个城市叫什么名字？"


@pytest.fixture(autouse=True)
def champion(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model in data/model is version 1, and serves."""
    facts = {"weights_digest": "d", "receipt": "r", "verdict": "v", "dataset": "x", "passed": True, "why": ""}
    more = {"test_epoch": 1, "test_rows": 9, "who": "li", "when": "2026-01-01T00:00:00Z"}
    entries = [Entry(kind=kind, version=1, **facts, **more) for kind in ("judged", "promoted")]  # type: ignore[arg-type]
    monkeypatch.setattr(loading, "read_ledger", lambda _: entries)
    monkeypatch.setattr(versions, "weights_folder", lambda *_: paths.MODEL)
    monkeypatch.setattr(
        versions,
        "version_receipt",
        lambda *_: {"metrics": read_json(paths.METRICS)} if paths.METRICS.exists() else None,
    )


def requests(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Family → a file with the fields of its test rows, and the rows."""
    fields_of = {row["row_id"]: row for row in read_dataset().to_pylist()}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(TEST).to_pylist():
        rows.setdefault(row["family"], []).append(row)
    for family, tested in rows.items():
        lines = [{**request_of(fields_of[row["row_id"]]), "template": row["template"]} for row in tested]
        write_jsonl(folder / f"{family}.jsonl", lines)
    return rows


def test_its_greedy_answers_are_the_recorded_predictions(project: Path, tiny_llama: Path, strop: Strop) -> None:
    config = prepare(project, tiny_llama, method="full", max_steps=60, learning_rate=3e-3)
    write_round(Round(None, 1, 0))
    finetune.run(config)
    evaluate.run(config)
    tested = requests(project)
    assert set(tested) == {"topic", "qa"}
    for role, to in (("candidate", "champion"), ("base", "base")):
        predictions = {row["row_id"]: row for row in pq.read_table(paths.PREDICTIONS / f"{role}.parquet").to_pylist()}
        for family, rows in tested.items():
            code, out, err = strop("generate", "--family", family, "--input", f"{family}.jsonl", "--to", to)
            assert code == 0, err
            answers = [json.loads(line) for line in out.splitlines()]
            assert len(answers) == len(rows) >= 2
            for row, answer in zip(rows, answers, strict=True):
                recorded = predictions[row["row_id"]]
                assert answer["answer"] == recorded["prediction"]
                assert (answer["read"], answer["is_unparsed"]) == (recorded["read"], recorded["is_unparsed"])
                assert (answer["is_cut"], answer["template"]) == (recorded["is_cut"], row["template"])
                assert answer["version"] == (1 if to == "champion" else None)
    assert len({row["prediction"] for row in pq.read_table(paths.PREDICTIONS / "candidate.parquet").to_pylist()}) > 2
    one = tested["qa"][0]["input"] or tested["qa"][0]["instruction"]
    code, out, _ = strop("generate", "--family", "qa", "--field", f"question={one}", "--json")
    answer = json.loads(out)
    assert (code, answer["family"], answer["kind"]) == (0, "qa", "qa")
    assert strop("generate", "--family", "qa", "--field", f"question={one}")[1].strip() == answer["value"].strip()


@pytest.mark.parametrize(
    ("judged", "is_native", "used"), [("fp32", True, "fp32"), ("bf16", True, "bf16"), ("bf16", False, "fp32")]
)
def test_it_computes_in_the_precision_of_its_evaluation_where_the_machine_can(
    judged: str, is_native: bool, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda: is_native)
    assert precision.judged_precision(judged, "generate") == used
    assert precision.judged_precision(None, "generate") == ("bf16" if is_native else "fp32")
    assert precision.judged_precision(None, "generate", "fp32") == "fp32"


@pytest.fixture
def generates(project: Path, tiny_llama: Path) -> None:
    """An untrained champion with the templates of the project."""
    write_params(project, params(tiny_llama, []))
    begin_round(load_config())
    load_base(read_base()).save_pretrained(paths.MODEL)
    save_templates(tiny_llama)


def save_templates(base: Path, form: str = "answers", generates: bool = True) -> None:
    load_tokenizer(base, generates=generates).save_pretrained(paths.MODEL)
    families = {name: family.as_dict() for name, family in read_templates().items()}
    write_json(paths.MODEL / "templates.json", {"form": form, "families": families, "max_length_tokens": 128})


@pytest.mark.usefixtures("generates")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--family", "weather", "--field", "text=x"], "has no family weather. It was trained on code, dialogue"),
        (["--family", "topic", "--field", "txt=x"], "unknown field: txt. Known are text, context, question"),
        (["--family", "topic"], "a field is missing: input (text, context)"),
        (["--family", "topic", "--field", "text=x", "--template", "topic-fr-1"], "no template topic-fr-1. Known are topic-en-1"),
        (["--family", "topic", "--field", "text=" + "news 新闻 " * 300], "and an answer of up to 8 exceed the context of 512"),
        (["--family", "topic", "--input", "bad.jsonl"], "bad.jsonl line 2: not JSON"),
        (["--family", "topic", "--input", "unknown.jsonl"], "unknown.jsonl line 1: unknown field: 城市"),
        (["--family", "topic", "--input", "none.jsonl"], "none.jsonl: cannot be read"),
    ],
)  # fmt: skip
def test_what_it_cannot_answer_is_one_line(arguments: list[str], problem: str, strop: Strop) -> None:
    Path("bad.jsonl").write_text('{"text": "x"}\n{"text": \n', encoding="utf-8")
    write_jsonl(Path("unknown.jsonl"), [{"城市": "x"}])
    code, out, err = strop("generate", *arguments)
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if "strop: " in line]
    assert problem in line


@pytest.mark.usefixtures("generates")
def test_a_prompt_is_shortened_on_request_and_the_template_can_be_named(strop: Strop) -> None:
    long = "news 新闻 " * 300
    code, out, _ = strop("generate", "--family", "topic", "--field", f"text={long}", "--shorten", "--json")
    assert (code, json.loads(out)["is_shortened"]) == (0, True)
    code, out, _ = strop(
        "generate", "--family", "topic", "--field", "text=进球了", "--template", "topic-en-1", "--json"
    )
    assert (code, json.loads(out)["template"], json.loads(out)["is_shortened"]) == (0, "topic-en-1", False)
    sampled = ["generate", "--family", "topic", "--field", "text=进球了", "--temperature", "1", "--json"]
    assert strop(*sampled)[1] == strop(*sampled)[1]


@pytest.mark.usefixtures("generates")
@pytest.mark.parametrize(
    "arguments",
    [[], ["Hello", "--family", "topic"], ["Hello", "--field", "text=x"], ["--field", "x", "--family", "qa"]],
)
def test_a_prompt_and_a_family_exclude_each_other(arguments: list[str], strop: Strop) -> None:
    assert strop("generate", *arguments)[0] == 2


@pytest.mark.usefixtures("generates")
def test_a_free_prompt_has_its_system_turn_and_tools_as_in_training(
    strop: Strop, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[list[int]] = []
    from flows import inference

    monkeypatch.setattr(inference, "_generate", lambda loaded, ids, *_: (prompts.append(ids[0].tolist()), _[-2].end()))
    tools = [{"name": "weather", "description": "天气", "parameters": {"type": "object", "properties": {}}}]
    Path("tools.json").write_text(json.dumps(tools), encoding="utf-8")
    for question in ("What is the weather?", CHINESE):
        assert strop("generate", question, "--system", "Be kind.", "--tools", "tools.json")[0] == 0
        document = read_json(paths.MODEL / "templates.json")
        fields = {"input": question, "system": "Be kind.", "tools": tools}
        family = FamilyPrompts(load_tokenizer(paths.MODEL), document).of("dialogue", fields, "dialogue-en-1")
        assert prompts.pop() == family.ids
        assert "weather" in family.text


def test_a_classifier_gives_the_label_of_a_row(project: Path, tiny_bert: Path, strop: Strop) -> None:
    write_params(project, params(tiny_bert, [], finetune={"objective": "classify"}))
    begin_round(load_config())
    load_base(read_base(), labels=LABELS).save_pretrained(paths.MODEL)
    write_json(paths.MODEL / "labels.json", list(LABELS))
    save_templates(tiny_bert, "labels", generates=False)
    rows = [{"text": row["input"]} for row in toy_rows(5, 0)] + [{"input": "进球了", "instruction": CHINESE}]
    write_jsonl(Path("rows.jsonl"), rows)
    code, out, _ = strop("generate", "--family", "topic", "--input", "rows.jsonl")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    tokenizer, model = load_tokenizer(paths.MODEL, generates=False), load_trained(paths.MODEL, read_base())
    prompts = FamilyPrompts(tokenizer, read_json(paths.MODEL / "templates.json"))
    for row, answer in zip(rows, answers, strict=True):
        (logits,) = head_logits(model, [prompts.of("topic", row).ids], 1)
        assert answer["label"] == LABELS[logits.index(max(logits))]
        assert answer["probability"] == answer["labels"][answer["label"]] == max(answer["labels"].values())
    code, out, _ = strop("generate", "--family", "topic", "--field", f"text={rows[0]['text']}")
    assert out.split()[0] == answers[0]["label"]


def test_a_reward_model_scores_an_answer(project: Path, tiny_llama: Path, strop: Strop) -> None:
    write_params(project, params(tiny_llama, [], finetune={"objective": "reward"}))
    begin_round(load_config())
    load_base(read_base(), labels=REWARD).save_pretrained(paths.MODEL)
    write_json(paths.MODEL / "labels.json", list(REWARD))
    save_templates(tiny_llama, "ranked")
    fields = ["--field", f"question={CHINESE}"]
    code, _, err = strop("generate", "--family", "qa", *fields)
    assert (code, "a field is missing: output" in err) == (1, True)
    code, out, _ = strop("generate", "--family", "qa", *fields, "--field", "output=它叫城市7。", "--json")
    answer = json.loads(out)
    prompts = FamilyPrompts(load_tokenizer(paths.MODEL), read_json(paths.MODEL / "templates.json"))
    used = prompts.of("qa", {"question": CHINESE, "output": "它叫城市7。"})
    ((reward,),) = head_logits(load_trained(paths.MODEL, read_base()), [used.ids], 1)
    assert (code, answer["template"]) == (0, used.template)
    assert answer["reward"] == pytest.approx(reward, abs=1e-5)
