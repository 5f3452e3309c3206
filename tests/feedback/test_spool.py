"""The spool: nothing that was written is lost or damaged silently, and every reader sees whole records only."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tasks import paths
from tasks.feedback import spool
from tasks.feedback.lines import encode_line, read_lines
from tasks.feedback.retention import expired_segments
from tasks.feedback.spool import SpoolWriter, read_spool, segments
from tasks.retention.folders import spool_removals
from tasks.retention.plan import in_order


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


FOLDER = Path("spool")


def record(number: int, text: str = "x") -> dict[str, Any]:
    return {"kind": "response", "id": f"resp_{number:032x}", "key": "app", "choices": 1, "text": text}


def numbers() -> list[int]:
    return [int(line.start[1].removeprefix("resp_"), 16) for line in read_spool(FOLDER)]


def test_records_are_read_as_they_were_written_in_english_and_chinese() -> None:
    written = [
        record(1, "It is\nLyon.\u2028"),
        record(2, "它叫里昂。"),
        record(3, '{{ 7 * 7 }} \x00 "'),
        record(4, "\ud83d"),
    ]
    with SpoolWriter(FOLDER, 10_000) as writer:
        for each in written:
            writer.append(each)
        assert [line.record for line in read_spool(FOLDER)] == written  # before the segment ends


def test_a_full_segment_is_followed_by_another() -> None:
    with SpoolWriter(FOLDER, 400) as writer:
        for number in range(10):
            writer.append(record(number, "y" * 100))
        writer.append(record(10, "y" * 1000))  # larger than a segment
    assert len(segments(FOLDER)) > 4
    assert all(path.stat().st_size <= 400 for path in segments(FOLDER)[:-1])
    assert numbers() == list(range(11))


def test_a_torn_tail_costs_no_other_record_and_no_later_one() -> None:
    with SpoolWriter(FOLDER, 10_000) as writer:
        writer.append(record(1))
    (path,) = segments(FOLDER)
    for torn in (encode_line(record(2))[:40], b"\0" * 512, b"{"):
        with path.open("ab") as file:
            file.write(torn)
        damage: list[str] = []
        assert [line.start[1][-1] for line in read_spool(FOLDER, damage)] == ["1"]
        assert damage == []  # as a line that is being written
    with SpoolWriter(FOLDER, 10_000) as writer:
        writer.append(record(3))
    assert numbers() == [1, 3]


def test_a_damaged_line_in_the_middle_is_reported_and_skipped() -> None:
    with SpoolWriter(FOLDER, 10_000) as writer:
        for number in (1, 2, 3):
            writer.append(record(number, "paid 100"))
    (path,) = segments(FOLDER)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"paid 100", b"paid 900", 2).replace(b"paid 900", b"paid 100", 1))
    damage: list[str] = []
    assert [line.record["id"][-1] for line in read_spool(FOLDER, damage)] == ["1", "3"]
    assert len(damage) == 1
    assert f"{path}: a damaged record of" in damage[0]
    assert f"byte {len(content) // 3:,}" in damage[0]


def test_lines_longer_than_one_read_are_read() -> None:
    with SpoolWriter(FOLDER, 1 << 30) as writer:
        writer.append(record(1, "字" * 1_000_000))
        writer.append(record(2))
    (path,) = segments(FOLDER)
    first, second = read_lines(path)
    assert len(first.record["text"]) == 1_000_000
    assert [line.start for line in read_lines(path, first.end)] == [second.start]


def test_two_gateways_write_to_two_folders_and_a_dead_one_gives_its_folder_back() -> None:
    with SpoolWriter(FOLDER, 10_000) as one, SpoolWriter(FOLDER, 10_000) as other:
        one.append(record(1))
        other.append(record(2))
        assert one.folder != other.folder
        first = one.folder
    assert sorted(numbers()) == [1, 2]
    with SpoolWriter(FOLDER, 10_000) as again:
        assert again.folder == first


def test_a_full_disk_leaves_whole_records(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def writes_a_part(descriptor: int, data: Any) -> int:
        if len(data) > 50:
            return write(descriptor, data[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    with SpoolWriter(FOLDER, 10_000) as writer:
        writer.append(record(1))
        with monkeypatch.context() as patch:
            patch.setattr(spool.os, "write", writes_a_part)
            with pytest.raises(OSError, match="No space"):
                writer.append(record(2))
        writer.append(record(3))
    damage: list[str] = []
    assert [line.record["id"][-1] for line in read_spool(FOLDER, damage)] == ["1", "3"]
    assert damage == []


def test_segments_expire_by_age_but_not_the_one_that_is_being_written() -> None:
    with SpoolWriter(FOLDER, 10_000) as writer:
        writer.append(record(1))
        writer.begin_segment()
        writer.append(record(2))
        old, new = segments(FOLDER)
        for path in (old, new):
            os.utime(path, (0, 0))
        assert expired_segments(FOLDER, 1.0) == [old]
    assert expired_segments(FOLDER, 1.0) == [old, new]
    assert expired_segments(FOLDER, 0.0) == []


def test_only_the_owner_may_read_the_records() -> None:
    with SpoolWriter(FOLDER, 10_000) as writer:
        writer.append(record(1))
        assert writer.folder.stat().st_mode & 0o077 == 0
    assert segments(FOLDER)[0].stat().st_mode & 0o077 == 0


def test_gc_removes_the_records_of_servers_whose_retention_has_ended() -> None:
    assert list(spool_removals(1.0)) == []
    with SpoolWriter(paths.SPOOL, 10_000) as writer:
        writer.append(record(1))
    (path,) = segments(paths.SPOOL)
    assert list(spool_removals(1.0)) == []
    os.utime(path, (0, 0))
    (removal,) = spool_removals(1.0)
    assert (removal.kind, removal.paths) == ("served records", (path,))
    assert in_order([removal])[0].bytes == path.stat().st_size
