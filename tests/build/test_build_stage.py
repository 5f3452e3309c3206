"""Recipes write generated rows into files that are never changed, and never a held-out prompt."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.project import params, write_params
from support.toy_rows import write_jsonl, write_part
from support.toyendpoint import Reply

from tasks.build.stage import RecipeResult, build
from tasks.config import load_config
from tasks.errors import ConfigError, DataError, SourceError
from tasks.records.raw_batch import digest_of
from tasks.records.row import CURATED_SCHEMA, NO_TEXT, row_id_of
from tasks.records.shapes import to_fields
from tasks.runtime.files import write_parquet

WriteDataset = Callable[[list[dict[str, Any]]], list[str]]
pytest_plugins = ["support.toyendpoint"]

TEMPLATES = [
    {"instruction": "What does {{ product }} cost?", "output": "{{ product }} costs {{ price }} euros."},
    {"instruction": "{{ product }}多少钱？", "output": "{{ product }}的价格是{{ price }}欧元。"},
]
PRODUCTS = [{"product": f"lamp {number}", "price": number} for number in range(3)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(recipe: dict[str, Any], sources: list[dict[str, Any]] | None = None, **options: Any) -> RecipeResult:
    write_params(Path(), {**params("x", sources or []), "build": {"recipes": [{"name": "r", **recipe}]}})
    return build(load_config(), **options)[0]


def written(name: str = "r") -> list[dict[str, Any]]:
    files = sorted(Path("inbox/built", name).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def write_dataset(here: Path) -> WriteDataset:
    """Writes a dataset of these rows; returns their ids."""

    def write_dataset(rows: list[dict[str, Any]]) -> list[str]:
        place = {"batch": "b1", "source": "toy", "file": "toy.jsonl", "line": 1, "family": "qa", "language": "en"}
        whole = [{**place, **NO_TEXT, "use": "train", "synthetic": "", **row} for row in rows]
        ids = [row_id_of(row) for row in whole]
        write_part([{**row, "row_id": row_id} for row, row_id in zip(whole, ids, strict=True)])
        splits = [row.get("split", "train") for row in rows]
        kept = [
            {"index": n, "row_id": row_id, "split": split, "group": ""}
            for n, (row_id, split) in enumerate(zip(ids, splits, strict=True))
        ]
        write_parquet(Path("data/curated/000001-b1.parquet"), pa.Table.from_pylist(kept, CURATED_SCHEMA))
        return ids

    return write_dataset


def test_records_are_rendered_by_each_template_with_the_record_as_parent(here: Path) -> None:
    write_jsonl(here / "products.jsonl", PRODUCTS)
    source = {"name": "made", "path": "inbox/built/r/*.jsonl", "shape": "alpaca", "family": "qa"}
    built = run({"kind": "records", "records": "products.jsonl", "templates": TEMPLATES}, [source])
    assert (built.made, built.new, built.refused, built.collected_by) == (6, 6, {}, "made")
    rows = written()
    assert rows[2]["instruction"] == "What does lamp 1 cost?"
    assert rows[3]["output"] == "lamp 1的价格是1欧元。"
    assert rows[2]["strop_synthetic"] == {"recipe": "r", "parents": [digest_of(PRODUCTS[1])]}
    for shape in ("row", "alpaca"):
        fields = to_fields(rows[2], shape, {})
        assert isinstance(fields, dict), "ingestion reads the generated row"
        assert (fields["synthetic"], json.loads(fields["parents"])) == ("r", [digest_of(PRODUCTS[1])])
        assert fields["output"] == "lamp 1 costs 1 euros."


def test_a_second_run_writes_only_new_rows_and_changes_no_file(here: Path) -> None:
    recipe = {"kind": "records", "records": "products.jsonl", "templates": TEMPLATES}
    write_jsonl(here / "products.jsonl", PRODUCTS)
    run(recipe)
    first = Path("inbox/built/r/0001.jsonl").read_bytes()
    assert run(recipe).file is None
    write_jsonl(here / "products.jsonl", [*PRODUCTS, {"product": "chair", "price": 9}])
    built = run(recipe)
    assert (built.made, built.new, built.file) == (8, 2, "inbox/built/r/0002.jsonl")
    assert Path("inbox/built/r/0001.jsonl").read_bytes() == first


def test_a_dry_run_writes_nothing_though_a_later_file_cannot_be_read(here: Path) -> None:
    write_jsonl(here / "a.jsonl", PRODUCTS)
    (here / "b.txt").write_text("")
    recipe = {"kind": "records", "records": "[ab].*", "templates": TEMPLATES}
    with pytest.raises(SourceError, match=r"b\.txt"):
        run(recipe, dry_run=True)
    assert written() == []
    with pytest.raises(SourceError, match=r"b\.txt"):
        run(recipe)
    assert len(written()) == 6


def test_records_that_are_nested_too_deeply_or_fit_no_template_are_refused_alone(here: Path) -> None:
    (here / "a.jsonl").write_text("[" * 100_000 + '\n{"a": "x", "b": "{c}"}\n{"a": "x", "b": "fits"}\n')
    built = run(
        {
            "kind": "records",
            "records": "a.jsonl",
            "templates": [{"instruction": "{{ a }}", "output": "{{ b.format(d=1) }}"}],
        }
    )
    assert (built.made, built.refused) == (1, {"not_parsed": 1, "template_failed": 1})


def test_a_cell_of_a_table_may_be_very_long(here: Path) -> None:
    (here / "a.csv").write_text(f"a,b\nq,{'x' * 200_000}\n")
    csv.field_size_limit(131_072)
    built = run({"kind": "records", "records": "a.csv", "templates": [{"instruction": "{{ a }}", "output": "{{ b }}"}]})
    assert built.made == 1


def test_records_that_cannot_be_rows_are_refused_by_reason(here: Path) -> None:
    (here / "faq.csv").write_text("\ufeffq,a\n问题,答案\nno answer,\nshort\n问题,答案\nzero,0\n", encoding="utf-8")
    template = {"instruction": "{{ q }}", "output": "{{ a if a != '0' else 1 / (a | int) }}"}
    built = run({"kind": "records", "records": "*.csv", "templates": [template, {"output": "{{ price }}"}]})
    assert [row["instruction"] for row in written()] == ["问题"]
    assert built.refused == {
        "missing_field": 4, "empty_output": 1, "not_parsed": 1, "duplicate": 1, "template_failed": 1,
    }  # fmt: skip


def test_a_template_cannot_leave_its_sandbox(here: Path) -> None:
    write_jsonl(here / "a.jsonl", [{"a": "x"}])
    built = run(
        {
            "kind": "records",
            "records": "a.jsonl",
            "templates": [{"output": "{{ a.__class__.__mro__[1].__subclasses__() }}"}],
        }
    )
    assert built.made == 0
    assert sum(built.refused.values()) == 1


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        ({"records": "no.jsonl", "templates": TEMPLATES}, SourceError, "no.jsonl: no such file"),
        ({"records": "a.txt", "templates": TEMPLATES}, SourceError, "neither .jsonl nor .csv"),
        ({"records": "a.jsonl", "templates": [{"output": "{{ a"}]}, ConfigError, "r template 1: not valid Jinja"),
    ],
)
def test_a_mistake_in_a_recipe_of_records_is_reported(here: Path, recipe: Any, error: type, message: str) -> None:
    (here / "a.txt").write_text("x")
    write_jsonl(here / "a.jsonl", [{"a": "x"}])
    with pytest.raises(error, match=message):
        run({"kind": "records", **recipe})


def test_a_dry_run_writes_nothing(here: Path) -> None:
    write_jsonl(here / "products.jsonl", PRODUCTS)
    built = run({"kind": "records", "records": "products.jsonl", "templates": TEMPLATES}, dry_run=True)
    assert (built.new, built.file) == (6, None)
    assert not Path("inbox/built").exists()


def test_an_unknown_recipe_is_reported_with_the_known_ones(here: Path) -> None:
    with pytest.raises(ConfigError, match="recipe other: no such recipe; there are: r"):
        run({"kind": "records", "records": "x.csv", "templates": TEMPLATES}, only="other")


def test_two_builds_at_once_do_not_write_the_same_files(here: Path) -> None:
    from filelock import FileLock

    write_jsonl(here / "products.jsonl", PRODUCTS)
    recipe = {"kind": "records", "records": "products.jsonl", "templates": TEMPLATES}
    Path(".strop/locks").mkdir(parents=True)
    with FileLock(".strop/locks/build.lock"), pytest.raises(DataError, match="another `strop data build`"):
        run(recipe)
    assert run(recipe).new == 6


def paraphrase(prompt: str) -> str:
    text = prompt.rpartition("Text: ")[2].rpartition("文本：")[2]
    if "keep" in text:
        return text.replace("keep", "hold").upper() + " now"
    if "多少" in text:
        return "改写后的文本：" + text.replace("多少", "几")
    return {"number 7 a": "a number", "same old": "Same old!"}.get(text, "")


def test_paraphrases_keep_the_answer_and_never_come_from_held_out_rows(
    here: Path, write_dataset: WriteDataset, start_endpoint: Callable[..., Any]
) -> None:
    ids = write_dataset(
        [
            {
                "instruction": "keep 5 apples",
                "output": "Done.",
                "system": "Be short.",
                "rejected": "No.",
                "history": '[["user","hi"],["assistant","hello"]]',
            },
            {"instruction": "一共有多少个苹果？", "output": "5 个", "language": "zh"},
            {"instruction": "number 7 a", "output": "x"},
            {"instruction": "same old", "output": "x"},
            {"instruction": "keep the test row", "output": "x", "split": "test"},
            {"instruction": "keep the valid row", "output": "x", "split": "valid"},
            {"instruction": "keep what was made", "output": "x", "synthetic": "r"},
            {"instruction": "keep the golden row", "output": "x", "use": "golden"},
            {"instruction": "keep another family", "output": "x", "family": "topic"},
            {"instruction": "", "input": "no instruction", "output": "x"},
        ]
    )
    toy = start_endpoint(paraphrase)
    generator = {"model": "toy", "base_url": toy.base_url}
    built = run({"kind": "paraphrase", "family": "qa", "generator": generator})
    rows = {row["instruction"]: row for row in written()}
    assert set(rows) == {"HOLD 5 APPLES now", "一共有几个苹果？"}
    fields = to_fields(rows["HOLD 5 APPLES now"], "row", {})
    assert isinstance(fields, dict)
    assert (fields["system"], fields["rejected"], fields["output"]) == ("Be short.", "No.", "Done.")
    assert json.loads(fields["history"]) == [["user", "hi"], ["assistant", "hello"]]
    assert rows["一共有几个苹果？"]["strop_synthetic"] == {"recipe": "r", "parents": [ids[1]]}
    assert built.refused == {"no_instruction": 1, "unchanged": 1, "drops_a_number_or_quotation": 1}
    assert len(toy.prompts) == 4
    assert run({"kind": "paraphrase", "family": "qa", "generator": generator}).remembered == 4
    assert len(toy.prompts) == 4


def test_a_paraphrase_with_the_prompt_of_a_test_row_is_refused(
    here: Path, write_dataset: WriteDataset, start_endpoint: Callable[..., Any]
) -> None:
    write_dataset(
        [{"instruction": "keep it", "output": "x"}, {"instruction": "HOLD IT now", "output": "y", "split": "test"}]
    )
    generator = {"model": "toy", "base_url": start_endpoint(paraphrase).base_url}
    assert run({"kind": "paraphrase", "family": "qa", "generator": generator}).refused == {"held_out": 1}


def test_a_family_without_parent_rows_is_reported(here: Path) -> None:
    with pytest.raises(DataError, match="no training row of family qa"):
        run({"kind": "paraphrase", "family": "qa", "generator": {"model": "base"}})


TRANSLATOR = """
calls = []

def translate(texts, to_language):
    calls.append((to_language, len(texts)))
    if to_language == "de":
        return [f"de:{text}" for text in texts]
    return [text.removeprefix("de:") + (" 吗" if to_language == "zh" else " back") for text in texts]

def short(texts, to_language):
    return texts[1:]

def broken(texts, to_language):
    raise RuntimeError("no network")
"""


def test_back_translation_uses_the_user_s_function_in_both_directions(
    here: Path, write_dataset: WriteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "my_translator.py").write_text(TRANSLATOR, encoding="utf-8")
    monkeypatch.syspath_prepend(here)
    write_dataset(
        [{"instruction": "say it", "output": "x"}, {"instruction": "说出来", "output": "y", "language": "zh"}]
    )
    recipe = {"kind": "back_translation", "family": "qa", "through": "de"}
    built = run({**recipe, "translator": "my_translator:translate"})
    assert sorted(row["instruction"] for row in written()) == ["say it back", "说出来 吗"]
    assert built.generated == 4
    import my_translator  # type: ignore[import-not-found]

    calls = list(my_translator.calls)
    assert sorted(calls) == [("de", 2), ("en", 1), ("zh", 1)]
    assert run({**recipe, "translator": "my_translator:translate"}).new == 0
    assert my_translator.calls == calls, "the answers of a translator are stored too"
    for name, message in (
        ("short", "did not return as many"),
        ("broken", "raised RuntimeError: no network"),
        ("absent", "cannot be imported"),
        ("calls", "is not a function"),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            run({**recipe, "translator": f"my_translator:{name}"})


def test_back_translation_by_a_generator(
    here: Path, write_dataset: WriteDataset, start_endpoint: Callable[..., Any]
) -> None:
    write_dataset([{"instruction": "say it", "output": "x"}])

    def answer(prompt: str) -> str:
        return "Translation: sag es" if "into French" in prompt else "please say that"

    toy = start_endpoint(answer)
    generator = {"model": "toy", "base_url": toy.base_url}
    run({"kind": "back_translation", "family": "qa", "through": "French", "generator": generator})
    assert [row["instruction"] for row in written()] == ["please say that"]
    assert "into English" in toy.prompts[1]
    assert toy.prompts[1].endswith("Text: sag es")


@pytest.mark.parametrize("kind", ["paraphrase", "back_translation"])
def test_a_text_that_was_cut_off_at_max_tokens_is_no_row(
    here: Path, write_dataset: WriteDataset, start_endpoint: Callable[..., Any], kind: str
) -> None:
    write_dataset(
        [{"instruction": f"What is the price of lamp {n} in euros?", "output": f"It is {n}."} for n in range(2)]
    )

    def cut(prompt: str) -> Reply:
        choice = {"finish_reason": "length", "message": {"content": f"How many euros does lamp {len(prompt)} co"}}
        return Reply(body=json.dumps({"choices": [choice]}))

    toy = start_endpoint(cut)
    through = {"through": "French"} if kind == "back_translation" else {}
    recipe = {"kind": kind, "family": "qa", "generator": {"model": "toy", "base_url": toy.base_url}, **through}
    for _ in range(2):  # the second time from the stored answers
        built = run(recipe)
        assert (built.made, built.refused) == (0, {"cut_off": 2})
    assert len(toy.prompts) == 2, "a translation that was cut off is not translated back"


def test_rows_from_before_a_failure_are_written_and_the_rest_follows(
    here: Path, write_dataset: WriteDataset, start_endpoint: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset([{"instruction": f"keep {number} things", "output": "x"} for number in range(100)])
    server = {"is_broken": True}
    count = {"prompts": 0}

    def answer(prompt: str) -> str | Reply:
        count["prompts"] += 1
        return Reply(401, "pay first") if server["is_broken"] and count["prompts"] > 80 else paraphrase(prompt)

    toy = start_endpoint(answer)
    recipe = {"kind": "paraphrase", "family": "qa", "generator": {"model": "toy", "base_url": toy.base_url}}
    with pytest.raises(SourceError, match="pay first"):
        run(recipe)
    assert "64 new rows are in inbox/built/r/0001.jsonl" in capsys.readouterr().err
    server["is_broken"] = False
    prompts_before = len(toy.prompts)
    built = run(recipe)
    assert (built.made, built.new) == (100, 36)
    assert built.remembered >= 80
    assert len(toy.prompts) - prompts_before == built.generated <= 20
    assert len({row["instruction"] for row in written()}) == 100
