"""Plain text, CoNLL columns and parallel text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from support.ingesting import errors, ingest, raw_rows, records
from support.realdata import real

from tasks.ingest.readers import lines
from tasks.ingest.readers.dispatch import read_records
from tasks.ingest.settings import Source
from tasks.records.shapes import Problem, to_fields

TEXT = {"name": "text", "path": "a.txt", "shape": "text", "family": "text"}
TAGS = {"name": "tags", "path": "a.conll", "shape": "conll", "family": "entities"}
PAIRS = {
    "name": "pairs", "path": "*.en*", "shape": "parallel", "family": "translation",
    "format": "parallel", "parallel": ["en", "zh"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_text_is_a_record_a_line_or_a_record_a_block(encoding: str) -> None:
    Path("a.txt").write_bytes("从前有座山。\nOnce upon a time.\r\n\r\n  \nThe end.\n".encode(encoding))
    ingest(TEXT | {"encoding": encoding})
    assert [each["text"] for each in records("text")] == ["从前有座山。", "Once upon a time.", "The end."]
    ingest(TEXT | {"name": "blocks", "encoding": encoding, "text_unit": "document"})
    assert records("blocks")[0]["text"].splitlines() == ["从前有座山。", "Once upon a time."]
    assert [row["line"] for row in raw_rows("blocks")] == [1, 5]


def test_text_that_cannot_be_decoded_is_kept_as_bytes() -> None:
    Path("a.txt").write_bytes(b"good\n\xff\xfe\xff bad\nlast")
    ingest(TEXT)
    assert [each["text"] for each in records("text")] == ["good", "last"]
    assert errors("text") == ["not_decoded"]


def test_conll_is_a_record_a_sentence() -> None:
    Path("a.conll").write_text(
        "-DOCSTART- -X- O\n\nAnn NNP B-person\nsleeps VB O\n\n\n我\tO\n在\tO\n北\tB-城市\n京\tI-城市\n",
        encoding="utf-8",
    )
    ingest(TAGS)
    assert records("tags") == [
        {"tokens": ["Ann", "sleeps"], "tags": ["B-person", "O"]},
        {"tokens": ["我", "在", "北", "京"], "tags": ["O", "O", "B-城市", "I-城市"]},
    ]
    assert [row["line"] for row in raw_rows("tags")] == [3, 7]


def test_comments_above_a_sentence_are_no_tokens() -> None:
    """As in MultiCoNER and CoNLL-U: each of its sentences was refused for the tag `domain=en`."""
    Path("a.conll").write_text("# id 5 domain=en\n# text = Ann\nAnn _ _ B-x\n#1 _ _ O\n\n# O\nBo B-x\n\n# end\n")
    result = ingest(TAGS)
    assert records("tags") == [
        {"tokens": ["Ann", "#1"], "tags": ["B-x", "O"], "comment": "# id 5 domain=en\n# text = Ann"},
        {"tokens": ["#", "Bo"], "tags": ["O", "B-x"]},
    ]
    assert "field `comment` is not used" in result.problems[0]


def test_a_token_without_a_tag_costs_its_sentence_alone() -> None:
    Path("a.conll").write_text("Ann\nsleeps O\n\nBo B-person\n")
    ingest(TAGS)
    assert records("tags") == [{"tokens": ["Bo"], "tags": ["B-person"]}]
    assert [row["raw"] for row in raw_rows("tags") if row["raw"]] == [b"Ann\nsleeps O\n"]
    assert errors("tags") == ["wrong_field_count"]


def test_a_block_without_end_is_kept_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1000)
    Path("a.conll").write_text("word O\n" * 1000)
    ingest(TAGS)
    assert set(errors("tags")) == {"too_long"}
    assert sum(len(row["raw"]) for row in raw_rows("tags") if row["raw"]) + 7 * sum(
        len(each["tokens"]) for each in records("tags")
    ) == len("word O\n" * 1000)


@pytest.mark.parametrize("unit", ["line", "document"])
def test_no_part_of_an_endless_line_or_block_becomes_a_row(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1000)
    endless = "x" * 2500 + "\n" if unit == "line" else "word\n" * 500
    Path("a.txt").write_text(f"before\n\n{endless}\nbehind\n")
    ingest(TEXT | {"text_unit": unit, "path": "a.txt"})
    assert [each["text"] for each in records("text")] == ["before", "behind"]
    assert set(errors("text")) == {"too_long"}
    assert b"".join(row["raw"] for row in raw_rows("text") if row["raw"]).decode() == endless


def test_a_line_without_end_moves_no_other_to_a_wrong_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1000)
    Path("a.en").write_text("cat\n" + "x" * 2500 + "\nbird\n")
    Path("a.zh").write_text("猫\n狗\n鸟\n", encoding="utf-8")
    ingest(PAIRS)
    assert [(each["source"], each["target"]) for each in records("pairs")] == [("cat", "猫"), ("bird", "鸟")]
    assert set(errors("pairs")) == {"too_long"}
    assert b"".join(row["raw"] for row in raw_rows("pairs") if row["raw"]).count(b"x") == 2500


def test_two_files_side_by_side_are_a_record_a_pair_of_lines() -> None:
    Path("a.en.txt").write_text("cat\n\ndog\n")
    Path("a.zh.txt").write_text("猫\n\n狗\n", encoding="utf-8")
    Path("b.en.gz").write_bytes(gzip.compress(b"sun\n"))
    Path("b.zh.gz").write_bytes(gzip.compress("太阳\n".encode()))
    assert ingest(PAIRS | {"path": "*.*"}).sources[0].files == 2
    assert [(each["source"], each["target"]) for each in records("pairs")] == [
        ("cat", "猫"),
        ("dog", "狗"),
        ("sun", "太阳"),
    ]
    assert not ingest(PAIRS | {"path": "*.*"}).new
    with Path("a.zh.txt").open("a", encoding="utf-8") as file:  # the second file alone changed
        file.write("鸟\n")
    with Path("a.en.txt").open("a") as file:
        file.write("bird\n")
    ingest(PAIRS | {"path": "*.*"})
    assert records("pairs")[-1] == {"source": "bird", "target": "鸟"}


def test_files_of_different_length_are_reported_and_their_lines_kept() -> None:
    Path("a.en").write_text("cat\ndog\nbird\n")
    Path("a.zh").write_text("猫\n", encoding="utf-8")
    result = ingest(PAIRS)
    assert result.problems == ["a.en: no_partner: a.zh ends before line 2"]
    assert [row["raw"] for row in raw_rows("pairs") if row["raw"]] == [b"dog\n", b"bird\n"]


def test_a_file_without_its_second_file_is_an_error() -> None:
    Path("a.en").write_text("cat\n")
    (error,) = ingest(PAIRS).errors
    assert str(error) == "a.zh: no such file. Put it beside a.en"


def test_the_real_files_are_read_whole() -> None:
    conll = TAGS | {"path": str(real("wnut17/train.conll"))}
    pairs = PAIRS | {"path": str(real("multi30k/train.en.gz")), "parallel": ["en", "de"]}
    text = TEXT | {"path": str(real("llamafactory/wiki_demo.txt"))}
    result = ingest(conll, pairs, text)
    assert [source.new_rows for source in result.sources] == [3394, 29000, 30]
    assert not result.problems
    rows = [to_fields(each, "conll", {}) for each in records("tags")]
    assert not [row for row in rows if isinstance(row, Problem)]
    assert to_fields(records("pairs")[0], "parallel", {})["output"].startswith("Zwei junge")  # type: ignore[index]


def test_relations_in_the_blocks_of_semeval_are_texts_with_labels(tmp_path: Path) -> None:
    text = (
        '1\t"The <e1>audits</e1> were "about" <e2>waste</e2>."\r\nMessage-Topic(e1,e2)\r\nComment: of a kind\r\n\r\n'
        '2\t"The <e1>child</e1> was in the <e2>cradle</e2>."\nOther\nComment:\n\n\n'
        '3 "这个<e1>杯子</e1>在<e2>桌</e2>上。"\nOther\n\n4\t"No relation"\n\n"No number"\nOther\n'
    )
    (tmp_path / "TRAIN_FILE.TXT").write_text(text, encoding="utf-8", newline="")
    source = Source(name="s", path="x", shape="text_label", family="relation", format="semeval")
    first, second, third, *torn = read_records(tmp_path / "TRAIN_FILE.TXT", source)
    sentence = 'The <e1>audits</e1> were "about" <e2>waste</e2>.'
    assert first.record == {"id": "1", "text": sentence, "label": "Message-Topic(e1,e2)", "comment": "of a kind"}
    assert second.record["label"] == "Other"
    assert "comment" not in second.record
    assert third.record["text"] == "这个<e1>杯子</e1>在<e2>桌</e2>上。"
    assert [each.line for each in torn] == [13, 15]
    assert {(each.error or "").split(":")[0] for each in torn} == {"wrong_field_count"}
