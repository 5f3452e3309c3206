"""People's preferences that quote an erased row are removed; all others stay, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.erasing import SECRET, files_with, ids_of

from tasks import paths
from tasks.erase.preferences import quotes_row
from tasks.erase.stage import erase
from tasks.evaluate.judge.review import with_imported
from tasks.records.segmentation import normalise
from tasks.runtime.files import write_text
from tasks.state.erased_traces import read_erased_traces

TEXTS = {normalise(text) for text in (SECRET, "yes", "Where does Ann live these days?")}


def line(**fields: str) -> bytes:
    return json.dumps({"question": "q", "answer_a": "a", "answer_b": "b", "preferred": "A"} | fields).encode()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"row_id": "r1"}, True),
        ({"question": "Yes"}, True),
        ({"question": f"请回答：{SECRET}，他叫什么？"}, True),
        ({"target": "Instruction: WHERE does Ann  live these days?"}, True),
        ({"answer_b": "does Ann live these days?"}, True),
        ({"answer_a": f"{SECRET[:4]}\n{SECRET[4:]}"}, True),
        ({"answer_a": f"{SECRET[:4]}\u200b{SECRET[4:]}"}, True),
        ({"answer_a": "yes"}, False),
        ({"question": "王小明"}, False),
        ({"row_id": "r2", "question": "Where does Bob live these days?"}, False),
    ],
)
def test_a_preference_quotes_a_row_by_its_id_its_question_or_a_longer_text(
    fields: dict[str, str], expected: bool
) -> None:
    assert quotes_row(line(**fields), ["r1"], TEXTS) is expected


def test_a_damaged_line_with_a_text_of_the_row_counts_too() -> None:
    assert quotes_row(f'{{"question": "{SECRET}'.encode(), [], TEXTS)
    assert not quotes_row(b"[1]", [], TEXTS)
    assert quotes_row(f'["{SECRET}", '.encode() + b"[" * 100_000, [], TEXTS)


@pytest.mark.usefixtures("warm")
def test_an_erasure_removes_the_lines_with_the_text_of_its_rows(world: Path) -> None:
    others = line(question="什么是另一个问题？") + b"\r\n" + line(question="Another one?") + b"\n"
    entry = {"question": "谁", "answer_a": f"{SECRET}！", "answer_b": "不知道", "preferred": "A", "trace": "tr-1"}
    secret = json.dumps(entry)
    write_text(paths.JUDGES / "preferences.jsonl", secret + "\n")
    with (paths.JUDGES / "preferences.jsonl").open("ab") as file:
        file.write(others)
    erased = erase(ids_of(SECRET), why="asked to by the person")
    assert erased is not None
    assert erased.preferences == 1
    assert (paths.JUDGES / "preferences.jsonl").read_bytes() == others
    assert files_with(SECRET, world / "data") == []
    assert with_imported([], [entry], read_erased_traces()) == ([], 0), "its trace had no row id"
