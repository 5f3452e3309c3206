"""Toy raw text, English and Chinese, as rows that `validate` hands on."""

from __future__ import annotations

from typing import Any

from support.toy_rows import toy_rows, write_part
from tasks.records.row import row_id_of

WEATHER = ["rain", "snow", "wind", "fog", "sun", "hail", "frost"]
CITIES = ["北京", "上海", "广州", "成都", "西安"]


def toy_text(number: int) -> str:
    """A text of its own for every number; every third is Chinese."""
    if number % 3 == 2:
        return f"第{number}天，{CITIES[number % 5]}的天气很好，大家都出门去看第{number}座桥。桥很长，河水很清。"
    weather = f"{WEATHER[number % 7]} and {WEATHER[(number // 7) % 7]}"
    return f"On day {number} there was {weather} over the hills. The {number} people of the village stayed at home."


def text_rows(count: int, text: Any = toy_text) -> list[dict[str, Any]]:
    """Rows (tasks.records.row.ROW_SCHEMA) of raw text."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        row = {"family": "text", "system": "", "history": "[]", "instruction": "", "input": "", "output": text(number)}
        place = {"batch": "t1", "index": number, "source": "pages", "file": "pages.txt", "line": number + 1}
        rows.append({**row, **place, "language": "zh" if "天" in row["output"] else "en", "row_id": row_id_of(row)})
    return rows


def write_texts_and_answers(texts: int = 60, topics: int = 40, questions: int = 20) -> None:
    """Two batches in data/raw and data/validated: answers, and raw text."""
    write_part(toy_rows(topics, questions))
    write_part(text_rows(texts), "000002-t1.parquet")
