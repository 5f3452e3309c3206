"""The frame that is validated: rows of six texts, one in five Chinese, some bad. A part of validate.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OWN_COLUMNS = ("row_id", "own_id", "language")
COLUMNS = ("system", "history", "instruction", "input", "output", "rejected")
GROUP = 20_000
LENGTH = 300
VOCABULARY = 4_000
POOL_CHARACTERS = 8_000_000


def text_pools() -> tuple[str, str]:
    """English and Chinese text from which cells are cut: words and characters by Zipf's law, with a fixed seed."""
    import numpy as np

    draw = np.random.default_rng(0)
    rank = 1 / np.arange(1, VOCABULARY + 1)
    letters = draw.choice(list("etaoinshrdlcumwfgypbvk"), size=(VOCABULARY, 9))
    words = ["".join(row[: 2 + number % 8]) for number, row in enumerate(letters)]
    english = " ".join(draw.choice(words, POOL_CHARACTERS // 5, p=rank / rank.sum()))
    bytes_ = [(first, second) for first in range(0xB0, 0xD7) for second in range(0xA1, 0xFF)]
    common = [bytes(pair).decode("gb2312") for pair in bytes_]  # 3,666 of those that GB 2312 calls common
    rank = np.append(rank[: len(common)], [0.4, 0.3])
    return english, "".join(draw.choice([*common, "，", "。"], POOL_CHARACTERS // 2, p=rank / rank.sum()))


def text_of(row: int, column: int, pools: tuple[str, str]) -> str | None:
    """A cell; some are empty, contain an address, or are too long."""
    defect = (row * 7 + column * 1009) % 5003
    if defect == 1:
        return None
    pool = pools[row % 5 == 0]
    begin = (row * 6 + column) * 2654435761 % (len(pool) - 2 * LENGTH)
    text = pool[begin : begin + LENGTH - 40 + row % 80]
    if defect == 2:
        return f"{text} see https://example.org/"
    return text * 2 if defect == 3 else text


def write_frame(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.records.row import MORE_FIELDS

    pools = text_pools()
    others = {name: value for name, value in MORE_FIELDS.items() if name not in COLUMNS and isinstance(value, str)}
    names = (*OWN_COLUMNS, "problem", *COLUMNS, *others)
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, GROUP):
            numbers = range(first, min(first + GROUP, rows))
            columns: dict[str, Any] = {
                "row_id": [f"{number * 2654435761 % 2**64:032x}" for number in numbers],
                "own_id": [f"id-{number - 1 if number % 4001 == 4000 else number}" for number in numbers],
                "language": ["fr" if number % 3001 == 5 else "zh" if number % 5 == 0 else "en" for number in numbers],
                "problem": [""] * len(numbers),
                **{name: [value] * len(numbers) for name, value in others.items()},
            }
            columns |= {
                name: [text_of(number, column, pools) for number in numbers] for column, name in enumerate(COLUMNS)
            }
            writer.write_table(pa.table(columns, schema=schema))
