"""Damaged Parquet is an error in one line: no damaged byte ends the process, and no page is skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from support.project import REPOSITORY

from tasks.ingest.readers.parquet_pages import chunks_of, page_ranges

READ_DAMAGED = """
import sys
from pathlib import Path
from tasks.errors import SourceError
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.arrow_rows import read_parquet

content, path = Path(sys.argv[1]).read_bytes(), Path("damaged.parquet")
size = int.from_bytes(content[-8:-4], "little")
for place in range(len(content) - 8 - size, len(content) - 8):
    for change in (0x01, 0x14):
        path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1:])
        try:
            list(read_parquet(Content(path, None)))
        except SourceError as error:
            assert len(str(error).splitlines()) == 1
"""


def test_a_damaged_footer_ends_in_one_line_and_not_with_the_process(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["c", None], "turns": [["d"], []]}), whole)
    ended = subprocess.run(
        [sys.executable, "-c", READ_DAMAGED, str(whole)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr[-2000:]) == (0, "")


def test_page_ranges_are_those_of_pyarrow(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({f"c{place}": [str(place)] * 10 for place in range(20)})
    pq.write_table(table, path, row_group_size=3)
    message = pq.read_metadata(path)
    with path.open("rb") as file:
        places = page_ranges(file, 20)
    assert len(places) == message.num_row_groups == 4
    for group, columns in enumerate(places):
        for column, place in enumerate(columns):
            expected = message.row_group(group).column(column)
            assert place.packed_bytes == expected.total_compressed_size
            assert place.starts == (expected.data_page_offset, expected.dictionary_page_offset)


def test_every_page_is_counted_whether_or_not_its_header_holds_statistics(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{place:09}" * 30 for place in range(20_000)]})
    pq.write_table(table, path, use_dictionary=False, data_page_size=1000, write_page_index=False)
    with path.open("rb") as file:
        (chunk,) = chunks_of(file, page_ranges(file, 1)[0], 0)
    assert chunk.values == 20_000
    assert chunk.unpacked_bytes > 5_400_000
