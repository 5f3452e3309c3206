"""The page of an audit: everything that an auditor asks for, in one file that requests nothing and escapes every text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows.report.audit_report.content import MEANINGS, content_of
from flows.report.audit_report.page import render, write_page
from tasks.audit.links import LINKS
from tasks.audit.stage import AuditResult, version_with_dataset
from tasks.audit.subject import Link
from tasks.errors import AuditError, DiskError
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_entries import Entry

HOSTILE = "<script>alert('x')</script>\u202e 张三"
VERDICT: dict[str, Any] = {
    "outcome": "passed", "passed": True, "reference": "base", "champion_version": None, "candidate_digest": "w" * 64,
    "alpha_spent": 0.025, "test_epoch": 1, "look": 1, "test_rows": 40,
    "checks": [{"name": "better", "family": None, "passed": True, "tier": "critical", "number": 0.01, "bound": 0.025,
                "interval": [0.01, 0.2], "rows": 40, "detail": "toy"}],
}  # fmt: skip
RECEIPT: dict[str, Any] = {
    "verdict": VERDICT, "dataset": "d" * 32 + ".dir", "raw": "r" * 32 + ".dir", "weights": "w" * 64, "commit": "c" * 40,
    "manifest": [
        {"source": "客服", "batch": "a", "rows": 1200},
        {"source": "客服", "batch": "b", "rows": 34},
        {"source": HOSTILE, "batch": "c", "rows": 7},
    ],
    "decisions": [{"what": "exclude", "which": "b7", "who": HOSTILE, "when": "2026-11-30T10:00:00+00:00", "why": "重复"}],
    "base": {"id": "models/基座", "kind": "folder", "revision": None, "digest": "b" * 64, "files": {"config.json": "f" * 64}},
    "environment": {"python": "3.11.7", "constraints": "e" * 64, "packages": {"torch": "2.13.0"}},
    "hardware": {"system": "Linux x86_64", "processor": "CPU", "cores": 2, "memory_gb": 24, "gpus": []},
    "seeds": {"finetune": 1}, "threads": 2, "plugins": {"mine.strop": "1" * 64}, "remote": "local only",
}  # fmt: skip


def entry(kind: Any, version: int, hour: int, who: str = "mei", why: str = "better") -> Entry:
    when = f"2026-11-30T{hour:02}:00:00+00:00"
    return Entry(kind, version, "w" * 64, "k" * 64, "v" * 64, RECEIPT["dataset"], True, 1, 40, who, when, why)


CHAIN = [
    ChainNode("1111111aaaaaa" + "0" * 27, entry("judged", 1, 8)),
    ChainNode("2222222bbbbbb" + "0" * 27, entry("promoted", 1, 9, HOSTILE, "经过审查 <b>ok</b>")),
    ChainNode("3333333cccccc" + "0" * 27, entry("promoted", 2, 11)),
]
RESULT = AuditResult(
    "tiny", 1, "c0ffee" + "0" * 34, RECEIPT, [Link("ledger", True, "3 entries"), Link("weights", True, "w", unrecorded=True)],
    CHAIN, is_deep=False, read_bytes=1_234_000, seconds=0.5,
)  # fmt: skip


class Text(HTMLParser):
    """The visible text of a page, the tags in it, and the addresses that it would request."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())


def page_of(result: AuditResult) -> Text:
    return Text(render(content_of(result, "2026-11-30 12:00:00", "0.1")))


def test_the_page_has_verdict_links_approvals_ledger_dataset_sources_and_environment() -> None:
    text = page_of(RESULT).text
    for expected in (
        "matches its receipt",
        "1 of 2 links match",
        "not recorded",
        "The new model passed: on 40 test rows it answers better than the base model",
        "经过审查",
        "2026-11-30 09:00:00",  # the promotion
        "2026-11-30 11:00:00",  # the end of its service
        "In service now: version 2",
        "客服 1,234 2",
        "all sources 1,241 3",
        "重复",
        "models/基座",
        "3.11.7",
        "torch 2.13.0",
        "1.2 MB were read",
        "mine.strop 111111111111",
    ):
        assert expected in text, expected


def test_texts_of_people_and_rows_are_escaped_and_the_page_requests_nothing() -> None:
    page = render(content_of(RESULT, "now", "0.1"))
    parsed = Text(page)
    assert "script" not in parsed.tags
    assert "b" not in parsed.tags
    assert parsed.addresses == []
    assert not re.search(r"https?://|url\(|@import", page)
    assert "\u202e" not in page
    assert "张三" in parsed.text
    assert "<b>ok</b>" in parsed.text


def test_a_version_that_differs_says_so_and_marks_the_entry_that_a_problem_names() -> None:
    broken = [
        Link("ledger", False, "`promoted v1` (2222222) has another who than its receipt"),
        Link("weights", True, "w"),
    ]
    result = replace(RESULT, links=broken, is_deep=True)
    text, content = page_of(result).text, content_of(result, "now", "0.1")
    assert "does not match its receipt" in text
    assert "These differ: ledger." in text
    assert "every byte of every file" in text
    assert [row["commit"][:7] for row in content["history"] if row["is_named"]] == ["2222222"]


def test_a_ledger_that_cannot_be_read_and_a_version_that_nobody_promoted_are_reported() -> None:
    text = page_of(replace(RESULT, chain=[])).text
    assert "The ledger cannot be read, or has no entry." in text
    assert "Nobody has promoted or rejected this version." in text


def test_every_link_is_explained() -> None:
    assert LINKS.keys() <= MEANINGS.keys()


def test_the_page_is_written_and_a_folder_in_its_place_is_one_error_line(tmp_path: Path) -> None:
    write_page(RESULT, tmp_path / "报告.html")
    assert "Audit of version 1" in (tmp_path / "报告.html").read_text(encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="the report of the audit cannot be written") as caught:
        write_page(RESULT, tmp_path / "folder")
    assert "\n" not in str(caught.value)


def test_a_dataset_is_named_by_version_or_by_its_first_characters() -> None:
    entries = [node.entry for node in CHAIN] + [
        replace(entry("judged", 2, 10), dataset="dddd00" + "1" * 26),
        replace(entry("judged", 3, 12), dataset=RECEIPT["dataset"]),
    ]
    assert [version_with_dataset(entries, name) for name in ("1", "v2", "DDDD00", RECEIPT["dataset"])] == [1, 2, 2, 3]
    for name, words in (("dddd", "too short"), ("v7", "no version has this dataset"), ("abcdef", "no version has")):
        with pytest.raises(AuditError, match=words) as caught:
            version_with_dataset(entries, name)
        assert "v3" in str(caught.value)
    similar = [*entries, replace(entry("judged", 4, 13), dataset="dddd00" + "2" * 26)]
    with pytest.raises(AuditError, match="several datasets begin so"):
        version_with_dataset(similar, "dddd00")
