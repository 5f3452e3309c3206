"""Images beside messages: kept once by content; one that is missing, climbs out or is none keeps its record, with a reason."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.ingesting import ingest, records
from support.realdata import real
from support.toy_rows import write_jsonl

from tasks.ingest.readers import images
from tasks.records.shapes import Problem, to_fields

CHATS = {"name": "chats", "path": "in/chats.jsonl", "shape": "messages", "family": "dialogue"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(50))
SHA = hashlib.sha256(PNG).hexdigest()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in/img").mkdir(parents=True)
    Path("in/img/1.png").write_bytes(PNG)
    Path("secret.png").write_bytes(PNG)


def chat(*paths: Any, text: str = "谁？") -> dict[str, Any]:
    turns = [{"role": "user", "content": f"<image>{text}"}, {"role": "assistant", "content": "他"}]
    return {"messages": turns, "images": list(paths)}


def kept() -> list[str]:
    return sorted(path.name for path in Path("data/raw/chats/images").glob("*"))


def test_an_image_is_kept_once_by_its_content_and_the_row_names_its_hash() -> None:
    Path("in/img/same.png").write_bytes(PNG)
    write_jsonl(Path("in/chats.jsonl"), [chat("img/1.png"), chat("img/same.png", "img/1.png")])
    assert not ingest(CHATS).problems
    assert kept() == [f"{SHA}.png"]
    rows = [to_fields(each, "messages", {}) for each in records("chats")]
    assert [json.loads(row["images"]) for row in rows if isinstance(row, dict)] == [[SHA], [SHA, SHA]]
    assert not ingest(CHATS).new


def test_an_image_may_stand_in_the_record_itself() -> None:
    message = base64.b64encode(PNG).decode()
    write_jsonl(
        Path("in/chats.jsonl"), [chat(f"data:image/png;base64,{message}"), chat({"bytes": message, "path": "x.png"})]
    )
    ingest(CHATS)
    assert kept() == [f"{SHA}.png"]
    assert records("chats")[0]["images"] == [{"path": "(embedded)", "sha256": SHA}]


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("img/none.png", "not found"),
        ("img", "not found"),
        ("../secret.png", "leads out of in"),
        ("img/../../secret.png", "leads out of in"),
        ("link.png", "leads out of in"),
        ("chats.jsonl", "is no image of a kind that is known"),
        ("http://example.org/1.png", "stands on the web"),
        ("data:image/png;base64,???", "is no base64"),
        ("a\0b.png", "embedded null byte"),
        ("x" * 5000, "File name too long"),
        (7, "is no path of an image"),
        ({"url": "x"}, "is no path of an image"),
    ],
)
def test_the_record_of_an_image_that_cannot_be_read_is_kept_with_the_reason(path: Any, fault: str) -> None:
    os.symlink("../secret.png", "in/link.png")
    write_jsonl(Path("in/chats.jsonl"), [chat(path), chat("img/1.png")])
    result = ingest(CHATS)
    assert not result.errors
    assert "1 image could not be read; put them there, then touch the file" in result.problems[0]
    results = to_fields(records("chats")[0], "messages", {})
    assert isinstance(results, Problem)
    assert (results.code, results.field) == ("missing_field", "images")
    assert fault in results.value
    assert isinstance(to_fields(records("chats")[1], "messages", {}), dict)


def test_an_absolute_path_and_a_large_image_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 20)
    write_jsonl(Path("in/chats.jsonl"), [chat(str(Path("secret.png").resolve())), chat("img/1.png")])
    ingest(CHATS)
    faults = [each["images"][0]["fault"] for each in records("chats")]
    assert faults == ["leads out of in", "is too large (58 bytes)"]


def test_a_link_in_a_circle_is_no_image() -> None:
    Path("in/img/loop.png").symlink_to("loop.png")
    write_jsonl(Path("in/chats.jsonl"), [chat("img/loop.png")])
    ingest(CHATS)
    assert records("chats")[0]["images"][0]["fault"] in ("is a link in a circle", "not found")


def test_an_image_that_is_added_later_is_stored_when_the_file_is_touched() -> None:
    path = write_jsonl(Path("in/chats.jsonl"), [chat("img/2.png")])
    ingest(CHATS)
    Path("in/img/2.png").write_bytes(PNG)
    os.utime(path, ns=(1, 1))
    assert ingest(CHATS).sources[0].new_rows == 1
    assert "sha256" in records("chats")[1]["images"][0]
    os.utime(path, ns=(2, 2))
    assert not ingest(CHATS).new


def test_a_changed_image_makes_another_record() -> None:
    path = write_jsonl(Path("in/chats.jsonl"), [chat("img/1.png")])
    ingest(CHATS)
    Path("in/img/1.png").write_bytes(PNG + b"!")
    write_jsonl(path, [chat("img/1.png"), chat("img/1.png", text="another")])
    assert ingest(CHATS).sources[0].new_rows == 2
    assert len(kept()) == 2


def openai(*urls: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": url} for url in urls]
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "谁？"}, *parts]},
        {"role": "assistant", "content": "他"},
    ]
    return {"messages": turns}


def test_images_within_openai_s_turns_are_kept_by_their_content() -> None:
    message = "data:image/png;base64," + base64.b64encode(PNG).decode()
    given = [openai({"url": message, "detail": "low"}), openai("img/1.png", {"url": message}), openai()]
    write_jsonl(Path("in/chats.jsonl"), given)
    result = ingest(CHATS)
    assert not result.problems
    assert kept() == [f"{SHA}.png"]
    rows = [to_fields(each, "messages", {}) for each in records("chats")]
    assert [json.loads(row["images"]) for row in rows if isinstance(row, dict)] == [[SHA], [SHA, SHA], []]
    assert [row["input"] for row in rows if isinstance(row, dict)] == [
        "谁？\n<image>",
        "谁？\n<image>\n<image>",
        "谁？",
    ]
    assert message not in json.dumps(records("chats"))
    assert records("chats")[2] == given[2]
    assert not ingest(CHATS).new


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://example.org/1.png", "https://example.org/1.png: stands on the web; put it beside the records"),
        ("../secret.png", "../secret.png: leads out of in"),
        ("data:image/png;base64,???", "(embedded): is no base64"),
        (None, "(embedded): is no path of an image"),
    ],
)
def test_an_image_in_a_turn_that_cannot_be_read_has_the_reason(url: Any, fault: str) -> None:
    write_jsonl(Path("in/chats.jsonl"), [openai({"url": url}), openai("img/1.png")])
    assert "1 image could not be read" in ingest(CHATS).problems[0]
    result = to_fields(records("chats")[0], "messages", {})
    assert result == Problem("missing_field", "messages.content", fault)
    assert isinstance(to_fields(records("chats")[1], "messages", {}), dict)


def test_images_within_the_turns_of_a_preference_pair_are_kept() -> None:
    turn = openai("img/1.png")["messages"][0]
    pair = {"prompt": [turn], "chosen": {"role": "assistant", "content": "他"}, "rejected": "她"}
    write_jsonl(Path("in/chats.jsonl"), [pair])
    ingest(CHATS | {"shape": "preference"})
    row = to_fields(records("chats")[0], "preference", {})
    assert isinstance(row, dict)
    assert (row["images"], row["rejected"]) == (f'["{SHA}"]', "她")


def test_a_record_without_images_is_stored_unchanged() -> None:
    write_jsonl(Path("in/chats.jsonl"), [chat()])
    ingest(CHATS)
    assert records("chats") == [chat()]
    assert kept() == []


def test_the_real_dialogues_bring_their_images() -> None:
    ingest(CHATS | {"path": str(real("llamafactory/mllm_demo.json"))})
    rows = [to_fields(each, "messages", {}) for each in records("chats")]
    assert len(rows) == 6
    assert all(isinstance(row, dict) and json.loads(row["images"]) for row in rows)
    assert len(kept()) == 3
    assert {name[-4:] for name in kept()} == {".jpg"}


def test_what_a_crash_left_of_an_image_is_removed() -> None:
    write_jsonl(Path("in/chats.jsonl"), [chat("img/1.png")])
    ingest(CHATS)
    Path("data/raw/chats/images/.half.png.abc").write_bytes(PNG[:5])
    Path(".strop/fetched-abc").mkdir()
    ingest(CHATS)
    assert kept() == [f"{SHA}.png"]
    assert not list(Path("data/raw").rglob(".*"))
    assert not list(Path(".strop").glob("fetched-*"))
