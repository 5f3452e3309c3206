"""Toy records and rows, and a batch of them in data/raw and data/validated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SECTIONS = {
    "sport": ["match", "goal", "coach", "league", "striker"],
    "tech": ["software", "phone", "chip", "browser", "robot"],
    "business": ["shares", "profit", "bank", "merger", "market"],
}


def topic_records(count: int, start: int = 0) -> list[dict[str, str]]:
    """Toy articles whose section is plain from their words; no two are alike."""
    names = list(SECTIONS)
    records = []
    for number in range(start, start + count):
        section = names[number % len(names)]
        words = SECTIONS[section]
        text = f"The {words[number % 5]} and the {words[(number // 5) % 5]} made news today, report number {number}."
        records.append({"text": text, "label": section})
    return records


def qa_records(count: int, start: int = 0) -> list[dict[str, str]]:
    """Toy questions and answers, half of them Chinese."""
    records = []
    for number in range(start, start + count):
        if number % 2:
            records.append(
                {"instruction": f"第{number}个城市叫什么名字？", "input": "", "output": f"它叫城市{number}。"}
            )
        else:
            records.append(
                {"instruction": f"What is the name of city {number}?", "input": "", "output": f"City {number}."}
            )
    return records


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def toy_rows(topics: int = 40, questions: int = 20) -> list[dict[str, Any]]:
    """Rows (tasks.records.row.ROW_SCHEMA) as `validate` hands them on."""
    from tasks.records.row import row_id_of

    rows: list[dict[str, Any]] = []
    for record in topic_records(topics):
        rows.append({"family": "topic", "instruction": "", "input": record["text"], "output": record["label"]})
    for record in qa_records(questions):
        rows.append({"family": "qa", **record})
    for index, row in enumerate(rows):
        language = "zh" if "城市" in row["output"] else "en"
        row |= {
            "batch": "b1",
            "index": index,
            "source": "toy",
            "file": "toy.jsonl",
            "line": index + 1,
            "language": language,
        }
        row |= {"system": "", "history": "[]"}
        row["row_id"] = row_id_of(row)
    return rows


def write_part(rows: list[dict[str, Any]], name: str = "000001-b1.parquet") -> None:
    """A batch in data/raw and its part of data/validated, all rows accepted, in the current project.

    The batch is called as the part and the rows say; one of that name is replaced.
    """
    import pyarrow as pa

    from tasks.records.raw_batch import RAW_SCHEMA, record_digest
    from tasks.records.row import NO_TEXT, VERDICT_SCHEMA
    from tasks.runtime.files import canonical_json, file_digest, write_parquet
    from tasks.state.manifest import Batch, read_manifest, write_manifest

    ordinal, batch_id = name.removesuffix(".parquet").split("-")
    source = rows[0]["source"] if rows else "toy"
    records = []
    for row in rows:
        content = {key: row[key] for key in NO_TEXT if key in row}
        if row.get("synthetic"):
            content["strop_synthetic"] = {"recipe": row["synthetic"], "parents": []}
        if row.get("served"):
            content["strop_served"] = json.loads(row["served"])
        record = canonical_json(content)
        place = {key: row[key] for key in ("file", "line", "family", "language")}
        reading = {"shape": "row", "columns": "{}", "use": row.get("use", "train")}
        records.append({"digest": record_digest(record, None), "record": record, **place, **reading})
    raw = Path("data/raw") / source / f"{batch_id}.parquet"
    write_parquet(raw, pa.Table.from_pylist(records, RAW_SCHEMA))
    batch = Batch(int(ordinal), batch_id, source, len(rows), file_digest(raw))
    others = [other for other in read_manifest() if other.batch != batch_id]
    write_manifest(sorted([*others, batch], key=lambda each: each.ordinal))
    verdicts = [{"index": index, "row_id": row["row_id"]} for index, row in enumerate(rows)]
    write_parquet(Path("data/validated") / name, pa.Table.from_pylist(verdicts, VERDICT_SCHEMA))
